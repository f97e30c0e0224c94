"""Lets entries go on that the index lost, and after the server's clock was set back.

A due time that fired does not fire again, so an entry waits until the clock is past
it. That is right for a time of day when the clock goes back by an hour or so. It is
wrong for an interval, which would be silent for that hour; and for every entry when a
clock that was wrong by days is corrected.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from redis import Redis

from .. import keys
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import text
from ..counts import executed
from . import listing, scripts
from .epoch import epoch_text, from_epoch
from .records import Record
from .schedules import At, Every

logger: logging.Logger = logging.getLogger(__name__)

LEAST = timedelta(seconds=1)
"""A clock set back by less is waited for."""

CORRECTED = timedelta(hours=3)
"""Set back by more, the new time counts at once for every entry: Debian's cron."""


class Setbacks:
    """What one beat knows of the server's clock.

    :param client: The beat's own.
    """

    def __init__(self, state: AppState, client: Redis) -> None:
        self._state = state
        self._client: Client = client
        self._clock_offset: float | None = None

    def follow_clock(self, now: datetime, *, leads: bool) -> None:
        """Let entries go on if the clock was set back; cheap if it was not.

        A beat that begins to lead looks at all entries once: it may have happened
        while none ran. It then puts back those that the index lost.

        :param now: The server's time.
        """
        # The monotonic clock is never set: the difference changes with the server's.
        offset = now.timestamp() - time.monotonic()
        known = self._clock_offset
        if not leads:
            self._clock_offset = None
        elif known is None or offset < known - LEAST.total_seconds():
            self._look_at_all(now)
            self._clock_offset = offset
        else:
            self._clock_offset = max(known, offset)

    def _look_at_all(self, now: datetime) -> None:
        ids, app = listing.ids(self._state, self._client), self._state.app.name
        put_back, moved = 0, []
        for start in range(0, len(ids), listing.BATCH):
            batch = ids[start : start + listing.BATCH]
            put_back += scripts.reindex(self._client, app, batch)
            moved += self._go_on(batch, now)
        if put_back:
            logger.warning(
                "Scheduler: Entries that were missing in %s, and go on (%d)",
                keys.due(app), put_back,
            )  # fmt: skip
        if moved:
            shown = ", ".join(moved[:10]) + (", …" if len(moved) > 10 else "")
            logger.warning(
                "Scheduler: The clock of Redis was set back; entries that go on by it"
                " (%d): %s",
                len(moved), shown,
            )  # fmt: skip

    def _go_on(self, ids: Sequence[str], now: datetime) -> list[str]:
        """Let those that fired ahead of the clock go on by it; their names."""
        moved = []
        for record in self._fired_ahead_of(ids, now):
            following = next_by_clock(record, now)
            if following is None or record.last_due is None:
                continue
            code = scripts.set_back(
                self._client,
                self._state.app.name,
                record.id,
                record.fingerprint,
                last_due=epoch_text(record.last_due),
                next=epoch_text(following),
            )
            if code == scripts.DONE:
                moved.append(record.name)
        return moved

    def _fired_ahead_of(self, ids: Sequence[str], now: datetime) -> Iterable[Record]:
        """Entries that fired for a time that is to come."""
        pipeline = self._client.pipeline(transaction=False)
        for id in ids:
            pipeline.hget(keys.entry(id), "last_due")
        fired = zip(ids, executed(pipeline, None), strict=True)
        found = [id for id, last_due in fired if _is_ahead(last_due, now)]
        return listing.by_id(self._state, found, self._client).values()


def next_by_clock(record: Record, now: datetime) -> datetime | None:
    """When an entry is due next after the clock was set back to ``now``.

    :return: ``None`` where it keeps its next time.
    """
    if record.entry is None or record.last_due is None or record.ended:
        return None
    schedule, beyond = record.entry.schedule, record.last_due - now
    if isinstance(schedule, At):
        return None
    if beyond > (LEAST if isinstance(schedule, Every) else CORRECTED):
        return schedule.next_run(now)
    return None


def _is_ahead(last_due: bytes | None, now: datetime) -> bool:
    try:
        return last_due is not None and from_epoch(text(last_due)) - now > LEAST
    except ValueError:
        return False
