"""Reads an app's entries and their last firings. Changes nothing."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from .. import inspector, keys, states
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import text
from ..counts import executed
from ..named import NamedTask
from ..option_values import TASK_ID
from ..readable import readable
from ..signature import Target
from .entries import entry_id
from .epoch import from_epoch
from .packing import Targets
from .records import Reading, Record, load

BATCH = 500
"""Records read in one round trip."""

What = t.Literal["fired", "skipped", "triggered"]
"""What came of a due time."""

_ROW = re.compile(
    rf"([0-9.]{{1,30}}) ([0-9.]{{1,30}}) (\S{{1,255}}) ({'|'.join(t.get_args(What))})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A due time of an entry, and what came of it.

    :param due: When it was due; of a trigger, when that was asked for.
    :param at: When it was fired.
    :param job_id: Of the job it made; ``None`` where it made none.
    :param what: ``fired``, ``skipped`` (its last job had not ended) or ``triggered``.
    :param state: Public state of the job; ``None`` where there is none any more.
    """

    due: datetime
    at: datetime
    job_id: str | None
    what: What
    state: str | None


def records(state: AppState) -> list[Record]:
    """All entries of the app, by name.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    with state.broker.errors():
        found = ids(state, state.broker.monitor)
    return sorted(by_id(state, found).values(), key=lambda record: record.name)


def ids(state: AppState, client: Client) -> list[str]:
    """Ids of the app's entries, sorted.

    :param client: Its errors are the caller's.
    """
    return sorted(map(text, client.smembers(keys.entries(state.app.name))))


def record(state: AppState, name: str) -> Record | None:
    """The app's entry of this name; ``None`` where there is none.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    id = entry_id(state.app.name, name)
    return by_id(state, [id]).get(id)


def by_id(
    state: AppState, entry_ids: Sequence[str], client: Client | None = None
) -> dict[str, Record]:
    """Entries by their ids, those there are.

    :param client: Used instead of the monitor's connection: a beat has its own.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    found: dict[str, Record] = {}
    with state.broker.errors():
        client = state.broker.monitor if client is None else client
        for start in range(0, len(entry_ids), BATCH):
            batch = entry_ids[start : start + BATCH]
            found.update(_read(state, client, batch))
    return found


def _read(
    state: AppState, client: Client, entry_ids: Sequence[str]
) -> Iterator[tuple[str, Record]]:
    pipeline = client.pipeline(transaction=False)
    for id in entry_ids:
        pipeline.hgetall(keys.entry(id))
        pipeline.zscore(keys.NAMES["scheduler_set"], id)
    # None where the key holds something else: load() then says what the record lacks.
    replies = executed(pipeline, None)
    config = state.config
    reading = Reading(
        accept=config.accept_content,
        signer=state.signer,
        limit=config.max_args_bytes,
        targets=targets_in(state),
    )
    for id, fields, score in zip(entry_ids, replies[::2], replies[1::2], strict=True):
        if fields != {}:
            yield id, load(id, fields or {}, score, reading)


def targets_in(state: AppState) -> Targets:
    """Finds what a signature calls: a task known here, or one known by its name."""
    owner = state.app.extensions["taskqueue"]

    def find(name: str) -> Target:
        known = state.tasks.get(name)
        return NamedTask(name, owner) if known is None else t.cast(Target, known)

    return find


def firings(state: AppState, name: str, most: int = 20) -> list[Fired]:
    """An entry's last firings, newest first; empty where there is no such entry.

    :param most: How many at most; 100 are kept.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    key = keys.firings(entry_id(state.app.name, name))
    with state.broker.errors():
        client: Client = state.broker.monitor
        # In a pipeline only for executed(): a key of another type reads as nothing.
        pipeline = client.pipeline(transaction=False)
        pipeline.lrange(key, 0, most - 1)
        rows: list[bytes] = executed(pipeline, [])[0]
    parsed = [fired for row in rows if (fired := _fired(row)) is not None]
    jobs = [job_id for _, _, job_id, _ in parsed if job_id]
    snapshots = inspector.snapshots(state, jobs) if jobs else {}
    return [
        Fired(
            due=due, at=at, job_id=job_id, what=what,
            state=_state(snapshots.get(job_id or "")),
        )
        for due, at, job_id, what in parsed
    ]  # fmt: skip


def _fired(row: bytes) -> tuple[datetime, datetime, str | None, What] | None:
    """A row of the list; ``None`` where somebody else wrote it."""
    match = _ROW.fullmatch(row.decode(errors="replace"))
    if match is None:
        return None
    due, at, job_id = match.group(1, 2, 3)
    what = t.cast(What, match.group(4))
    if job_id != "-" and not TASK_ID.fullmatch(job_id):
        return None
    try:
        return from_epoch(due), from_epoch(at), None if job_id == "-" else job_id, what
    except (ValueError, OverflowError):
        return None


def _state(found: inspector.Snapshot | Exception | None) -> str | None:
    """A job's public state; ``None`` where it is gone or cannot be read."""
    if found is None or isinstance(found, Exception):
        return None
    job = found
    state = readable(lambda: job.state)
    return None if state == states.UNKNOWN else state
