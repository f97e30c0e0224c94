"""Fires what is due: turns due times into ticks, and logs what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from redis import Redis

from .. import announcing, context, keys, signals
from ..appstate import AppState
from ..broker.loading import Client
from ..broker.wire import NewJob
from . import firing, listing, planning, scripts
from .entries import Entry, firing_id, told
from .epoch import epoch_text, from_epoch
from .records import Record
from .scripts import Due, Look, Tick
from .troubles import Troubles

logger: logging.Logger = logging.getLogger(__name__)

CHUNK = 100
"""Ticks sent in one round trip, or a few more: the first ones do not wait until the
jobs of all others are made."""


@dataclass(frozen=True, slots=True)
class _Firing:
    """A tick, and what the log says about it.

    :param dropped: Due times of the entry that are given up with it.
    """

    entry: Entry
    tick: Tick
    dropped: int = 0


class Ticker:
    """Fires one app's entries for a beat that leads.

    :param client: The beat's own.
    :param stopping: Asked before each entry: whether to begin no other.
    """

    def __init__(
        self, state: AppState, client: Redis, stopping: Callable[[], bool]
    ) -> None:
        self._state = state
        self._client: Client = client
        self._stopping = stopping
        self._app_name: str = state.app.name
        self._records: dict[str, Record] = {}
        self.troubles: Troubles = Troubles()

    def tick(self, look: Look) -> list[str]:
        """Fire what is due, in order of due time; the ids of the jobs made."""
        ready = [due for due in look.due if not self.troubles.rests(due.id)]
        self._read(ready)
        made: list[str] = []
        firings: list[_Firing] = []
        for due in ready:
            if self._stopping():
                break
            firings += self._firings(due, look)
            if len(firings) >= CHUNK:
                made += self._send(firings)
                firings = []
        made += self._send(firings)
        self._forget_gone(look)
        return made

    def note_cancelled(self, entry_ids: Iterable[str]) -> None:
        """Warn that entries were taken out of rq-scheduler's set by somebody else."""
        for entry_id in entry_ids:
            name = self._name_of(entry_id)
            logger.warning(
                "Scheduler: %s was cancelled by rq-scheduler's means and fires no"
                " more; 'flask beat resume %s' lets it go on",
                name, name,
            )  # fmt: skip

    def _name_of(self, entry_id: str) -> str:
        known = self._records.get(entry_id)
        if known is not None and known.entry is not None:
            return known.entry.name
        name: bytes | None = self._client.hget(keys.entry(entry_id), "name")
        return entry_id if name is None else name.decode("utf-8", "backslashreplace")

    def _read(self, due: Sequence[Due]) -> None:
        """Read the records that are not known as they are now. One round trip."""
        wanted = [one.id for one in due if not self._is_known(one)]
        for entry_id in wanted:
            self._records.pop(entry_id, None)
        if wanted:
            self._records |= listing.by_id(self._state, wanted, self._client)

    def _is_known(self, due: Due) -> bool:
        known = self._records.get(due.id)
        # One that could not be read may have been written anew, with the same one.
        return (
            known is not None
            and known.entry is not None
            and known.fingerprint == due.fingerprint
        )

    def _forget_gone(self, look: Look) -> None:
        """Forget all records when there are more than entries: some were removed."""
        if len(self._records) > look.known:
            self._records.clear()
        self.troubles.keep_within(look.known)

    def _firings(self, due: Due, look: Look) -> list[_Firing]:
        record = self._records.get(due.id)
        if record is None:  # It was removed a moment ago.
            self.troubles.note_refusal(due.id)
            return []
        if record.entry is None:
            self.troubles.note(due.id, record.name, record.problem)
            return []
        try:
            return self._planned(due, record, record.entry, look)
        except Exception as error:  # noqa: BLE001 - a task's own apply_async
            self.troubles.note(due.id, record.entry.name, told(error), error)
            return []

    def _planned(
        self, due: Due, record: Record, entry: Entry, look: Look
    ) -> list[_Firing]:
        plan = planning.plan(
            entry.schedule,
            from_epoch(due.score),
            look.now,
            misfire=entry.misfire,
            grace=entry.grace,
        )
        found: list[_Firing] = []
        for step in plan.steps:
            job: NewJob | None = None
            if step.due is not None:
                job_id = firing_id(due.id, step.due)
                job = firing.prepare(self._state, entry, record.queue, job_id)
            tick = Tick(
                id=due.id,
                fingerprint=record.fingerprint,
                # As it was read: written anew it might differ in its last digit.
                expected=epoch_text(step.expected) if found else due.score,
                due="" if step.due is None else epoch_text(step.due),
                next="" if step.next is None else epoch_text(step.next),
                skip_overlap=entry.overlap == "skip",
                job=job,
            )
            found.append(_Firing(entry, tick, 0 if found else plan.dropped))
        return found

    def _send(self, firings: Sequence[_Firing]) -> list[str]:
        ticks = [one.tick for one in firings]
        if not ticks:
            return []
        codes = scripts.tick_many(self._client, self._app_name, ticks)
        made = []
        for one, code in zip(firings, codes, strict=True):
            if code == scripts.FIRED and one.tick.job is not None:
                made.append(one.tick.job.id)
            self._note(one, code)
        return made

    def _note(self, one: _Firing, code: int) -> None:
        entry_id, entry = one.tick.id, one.entry
        if code in (scripts.FIRED, scripts.MOVED_ON, scripts.OVERLAPPED):
            self.troubles.forget(entry_id)
            self._tell(one, code)
        elif code == scripts.CANCELLED:
            self.note_cancelled([entry_id])
        elif code == scripts.NOT_A_JOB:
            problem = "a key of the entry, or of its job, holds something else"
            self.troubles.note(entry_id, entry.name, problem)
        else:
            # Somebody changed it, or another beat was faster: looked at anew.
            self._records.pop(entry_id, None)
            self.troubles.note_refusal(entry_id)

    def _tell(self, one: _Firing, code: int) -> None:
        entry, job = one.entry, one.tick.job
        if one.dropped:
            logger.warning(
                "Scheduler: %s missed %d due times by more than its grace of %g s;"
                " misfire=%r gives them up",
                entry.name, one.dropped, entry.grace, entry.misfire,
            )  # fmt: skip
        if job is None:
            return
        extra = {"job_id": job.id, "task": entry.task, "queue": job.queue}
        if code == scripts.FIRED:
            logger.info(
                "Scheduler: Sending due task %s (%s)",
                entry.name, entry.task, extra=extra,
            )  # fmt: skip
            self._announce(job)
        elif code == scripts.OVERLAPPED:
            logger.info(
                "Scheduler: Skipping %s (%s): its last job has not ended",
                entry.name, entry.task, extra=extra,
            )  # fmt: skip

    def _announce(self, job: NewJob) -> None:
        if signals.job_enqueued.receivers:
            context.run_apart(lambda: self._announce_here(job))

    def _announce_here(self, job: NewJob) -> None:
        with context.alone(self._state.app):
            announcing.enqueued(self._state, job)
