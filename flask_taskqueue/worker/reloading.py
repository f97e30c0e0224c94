"""A reload: the new code is tried, the children are told, a new program goes on."""

from __future__ import annotations

import logging
import os
import sys
import time
import typing as t
from collections.abc import Collection

from . import standing
from .asking import LEASE
from .handover import Heritage, Start, block
from .pools import Seat
from .signalled import Signals
from .trial import Trial

if t.TYPE_CHECKING:
    from .supervisor import Supervisor
    from .watching import Watch

logger: logging.Logger = logging.getLogger(__name__)

SETTLE = 0.5
"""Seconds after which a slot that was told to claim nothing more does not."""

LATER = float("inf")


class Reload:
    """One worker's reload, from the request to the moment of handing over.

    :ivar watch: Asks for a reload, too.
    :ivar under_way: The new code can be loaded: children are to claim nothing more.
    :ivar heritage: For the new program, once it is to go on.
    """

    def __init__(self, worker: Supervisor) -> None:
        self.watch: Watch | None = None
        self.under_way: bool = False
        self.heritage: Heritage | None = None
        self.start: Start = Start()
        self._worker = worker
        self._trial: Trial | None = None
        self._lease = LEASE
        self._keeps_children = True
        self._settled_at = LATER

    @property
    def deadline(self) -> float:
        """When to :meth:`tend` at the latest, by the monotonic clock."""
        trial = LATER if self._trial is None else self._trial.deadline
        watch = LATER if self.watch is None else self.watch.deadline
        settled = LATER
        if self.under_way:
            # A slot's step from one job to the end of the next wakes nobody.
            settled = max(self._settled_at, time.monotonic() + SETTLE / 10)
        return min(trial, watch, settled)

    def request(self, reason: str) -> None:
        """Begin, or begin again: the code may have changed since it was tried."""
        if self._worker.stopping:
            return
        logger.info("%s: loading the app anew", reason)
        self._worker.notifier.reloading()
        self.close()
        self.under_way = False
        try:
            self._trial = Trial(self.start)
        except OSError as error:
            logger.error("The app cannot be loaded anew: %s", error)
            self._worker.notifier.ready()

    def tend(self) -> None:
        """Do what is due before children are told anything."""
        if self.watch is not None and (changed := self.watch.changed()):
            self.request(f"{changed} has changed")
        trial = self._trial
        if trial is None or (passed := trial.passed()) is None:
            return
        self._trial = None
        if not passed:
            self._worker.notifier.ready()
            return
        logger.info("The new code loads: it goes on as running jobs finish")
        self.under_way, self._settled_at = True, time.monotonic() + SETTLE
        # The new program will need about the time of the trial to renew leases.
        self._lease = LEASE + 3 * trial.seconds
        self._keeps_children = trial.same_version
        self._worker.hold()

    def leave(self) -> None:
        """Let a new program go on, once all is in order for it."""
        worker = self._worker
        if not self.under_way or worker.stopping or worker.burials.seats:
            return
        if (worker.beat is not None and not worker.beat.is_over) or not self._settled:
            return
        worker.upkeep.about = standing.fields(worker)
        answer = worker.upkeep.renew(worker.staff.seats, lease=self._lease)
        if answer.unknown or answer.stop or self._runs_one_of(answer.lost):
            worker.upkeep.clock.renew = 0.0
            return
        worker.upkeep.leave_queues()
        self.heritage = Heritage(
            name=worker.options.name,
            made=worker.staff.made,
            children=worker.staff.legacy(),
            watched={} if self.watch is None else self.watch.known,
            **worker.upkeep.legacy(),
        )

    def _runs_one_of(self, executions: Collection[str]) -> bool:
        leases = (seat.board.read().lease for seat in self._worker.staff.seats)
        return any(lease and lease.execution in executions for lease in leases)

    @property
    def _settled(self) -> bool:
        """Children run what they run and no more: others can look after them.

        The process itself cannot be replaced while it runs a job, nor can a child be
        looked after by another version.
        """
        children = self._worker.staff.children
        stay = any(child.pid == os.getpid() for child in children)
        if not children or stay or not self._keeps_children:
            return not children
        seats = [seat for child in children for seat in child.seats]
        return time.monotonic() >= self._settled_at and all(map(_is_settled, seats))

    def finish(self, signals: Signals) -> None:
        """Let the new program take this one's place, if it is to. In the main thread.

        :param signals: What came of them and was not obeyed is left to that.
        :raises OSError: The system refused.
        """
        if self.heritage is None:
            return
        block()
        for number in signals.taken():
            os.kill(os.getpid(), number)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        self.start.again(self.heritage)

    def close(self) -> None:
        """End what runs of it."""
        if self._trial is not None:
            self._trial.close()
            self._trial = None


def _is_settled(seat: Seat) -> bool:
    """It is at its last job, or has none. Not while it stores one: it may claim
    another in the same call, if it began that before it was told. Nor while it has
    jobs ahead, of which the new program would not know who may begin them."""
    seen = seat.board.read()
    if seat.gone:
        return True
    if seen.ahead and seat.board.taken_back < seen.calls:
        return False
    if seen.asked and seat.board.intercepted < seen.asked_last:
        return False
    return seen.started > 0 or seen.lease is None
