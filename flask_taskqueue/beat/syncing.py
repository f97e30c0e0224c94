"""Brings Redis in line with the code: writes its entries, removes what left it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from redis import Redis

from .. import keys
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import text
from ..counts import executed
from ..errors import TaskQueueError
from . import listing, scripts, writing
from .entries import Entry, entry_id
from .records import Source
from .schedules import At
from .writing import Draft

logger: logging.Logger = logging.getLogger(__name__)


def synchronise(state: AppState, client: Redis, entries: Iterable[Entry]) -> None:
    """Write the entries that the code declares, and remove those it no longer does.

    Entries made at run time are left alone; signed ones get a signature by the first
    key. One that cannot be written is logged: the others are.

    :param client: What it raises is not caught: a lost connection ends the call.
    """
    marker = keys.synced(state.app.name)
    client.set(marker, "begun", nx=True)
    declared = set()
    for entry in entries:
        declared.add(entry_id(state.app.name, entry.name))
        new = _drafted(state, entry, "code")
        if new is not None and _write(state, client, entry, new):
            _warn_of_past(state, client, entry, new.id)
    unknown = [id for id in listing.ids(state, client) if id not in declared]
    sources = _sources(client, unknown)
    for id, (source, name) in sources.items():
        if source == b"code" and scripts.remove(client, state.app.name, id):
            shown = text(name or b"") or id
            logger.info("Scheduler: %s is gone from the code: removed", shown)
    if state.signer is not None:
        added = [id for id, (source, _) in sources.items() if source == b"run"]
        _sign_anew(state, client, added)
    # Not where Redis lost its data since the first step: some of the entries with it.
    client.set(marker, "done", xx=True)


def _drafted(
    state: AppState, entry: Entry, source: Source, queue: str = ""
) -> Draft | None:
    try:
        return writing.draft(state, entry, source, queue)
    except Exception:  # its task's own apply_async raises anything, an OSError as well
        logger.exception("Scheduler: %s cannot be written", entry.name)
        return None


def _write(
    state: AppState, client: Redis, entry: Entry, new: Draft, known: str = scripts.ANY
) -> bool:
    """Write an entry; whether it is new, or has changed."""
    try:
        return writing.put_draft(state, client, entry, new, known) != scripts.SAME
    except (TaskQueueError, ValueError):
        logger.exception("Scheduler: %s cannot be written", entry.name)
        return False


def _warn_of_past(state: AppState, client: Redis, entry: Entry, id: str) -> None:
    """Say so where a one-off was over when it was first seen."""
    if not isinstance(entry.schedule, At):
        return
    record = listing.by_id(state, [id], client).get(id)
    if record and record.ended and record.last_due != entry.schedule.instant:
        logger.warning(
            "Scheduler: %s lies in the past, %s: it does not fire",
            entry.name, entry.schedule,
        )  # fmt: skip


def _sign_anew(state: AppState, client: Redis, ids: Sequence[str]) -> None:
    """Write entries again as they are, unless somebody changes them meanwhile."""
    for record in listing.by_id(state, ids, client).values():
        if record.entry is not None:
            new = _drafted(state, record.entry, "run", record.queue)
            if new is not None:
                _write(state, client, record.entry, new, record.fingerprint)


def _sources(
    client: Client, ids: Sequence[str]
) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Where entries were made, and their names."""
    if not ids:
        return {}
    pipeline = client.pipeline(transaction=False)
    for id in ids:
        pipeline.hmget(keys.entry(id), "source", "name")
    # A key that holds something else reads as (None, None): not ours to change.
    return dict(zip(ids, executed(pipeline, (None, None)), strict=True))
