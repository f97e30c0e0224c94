"""One slot: claim, execute, store, repeat."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from redis.exceptions import ResponseError

from .. import joblog
from ..appstate import AppState
from ..broker.wire import Claimed, Lease, Next, Note
from ..errors import TaskQueueError
from ..job import StoredJob
from . import aftermath, joblines, notes, outcome, webhooks
from .asking import Asking, Row, refused
from .board import Board
from .endings import Failed, Outcome
from .execution import Executor
from .limits import Timer
from .line import HELD_BACK, IDLE, LIMITED, WAKE, Line, Place, Stopped
from .pace import Pace
from .plain import has_webhooks
from .reporter import JobReporter

logger: logging.Logger = logging.getLogger(__name__)


class Slot:
    """Runs one job after another until its supervisor says stop."""

    def __init__(self, state: AppState, place: Place, timer: Timer) -> None:
        self.state = state
        self.place = place
        self.board: Board = place.board
        self.line: Line = Line(state, place)
        self.executor: Executor = Executor(state, place.worker, timer, self.line.client)
        self._wear = place.wear
        counts = place.wear is not None and place.wear.counts
        self._pace = Pace(1 if counts else place.most)
        self._pid = os.getpid()
        self.asking: Asking = Asking(self.line, self._pace)

    def run(self) -> None:
        """Work until stopped. A job in hand is finished first."""
        try:
            self._begin()
            following = self._noted(self.asking.claim())
            while following.jobs or not self.board.stopping:
                if following.jobs:
                    following = self._noted(self._work(following.jobs))
                elif following.again or self._wait(following.held_back):
                    following = self._noted(self.asking.claim())
                else:
                    return
        except Stopped:
            return
        finally:
            self.line.close()

    def _begin(self) -> None:
        if self._wear is not None:
            self._wear.begin()
        if self.place.held:
            self.line.until_answered(lambda _: None)
            self.line.listen(None)

    def _work(self, claimed: Sequence[Claimed]) -> Next:
        """Run what a claim got, one after the other; the answer to the next claim.

        Ends are kept back until the last job's, or one that cannot wait.
        """
        self.asking.begin()
        kept: list[Row] = []
        waits = self.asking.is_under_way
        last = len(claimed) - 1
        for at, each in enumerate(claimed):
            if not self._may_begin(at):
                return self._leave(claimed, at, kept)
            lease = each.lease
            stored = StoredJob(lease.id, each.fields, lease.queue, self.place.limits)
            result = self._execute(at, lease, stored)
            row = outcome.row_of(self.state, stored, lease, result)
            if row is not None:
                kept.append(row)
                # To keep it says that its function is over, too.
                if (waits or at < last) and self.board.keep(row):
                    continue
            self.board.returned(at)
            if at == last and not waits and row is not None:
                break
            if kept:
                self.asking.store(kept)
                kept = []
            if row is None:
                self._store(stored, lease, result)
        return self.asking.go_on(kept) if kept else self.asking.received()

    def _may_begin(self, at: int) -> bool:
        """Whether a job is still this slot's to begin: its lease is young, its child is
        not worn, and the supervisor has not taken it back because it had to wait."""
        if not self.asking.is_sure or self.asking.worn:
            return False
        return at == 0 or self.board.tokens.take()

    def _leave(self, claimed: Sequence[Claimed], at: int, kept: list[Row]) -> Next:
        """Begin no more of them, from ``at`` on. The supervisor gives back what it has
        taken, which are the last; this slot the others."""
        if kept:
            self.asking.store(kept)
        left = self.board.tokens.take_all()
        taken = len(claimed) - max(at, 1) - left
        # It must not take the tokens of the next claim for those of this one.
        while taken and self.board.taken_back < self.asking.calls:
            self.line.listen(0.05)
        mine = [each.lease for each in claimed[at : len(claimed) - taken]]
        return self.asking.given_back(mine) if mine else self.asking.received()

    def _execute(self, at: int, lease: Lease, stored: StoredJob) -> Outcome:
        limit = self._hard_limit(stored)
        self.board.begin(at, limit)
        if limit is not None:
            self.line.say(LIMITED)
        if logger.isEnabledFor(logging.INFO):
            self._log_received(stored)
        reporter = JobReporter(self.line.client, self.state, lease, self._on_trouble)
        result = self.executor.run(stored, reporter)
        if os.getpid() != self._pid:
            # The function forked, and its copy came out of it, too.
            os._exit(70)
        if limit is not None:
            self.board.returned(at)
        if self._wear is not None:
            self._wear.count()
        if self.executor.timer.rang:
            self._forget_unread_replies()
        joblines.log(self.state.config, stored, result)
        seconds = getattr(result, "seconds", 0.0)
        self._pace.note(seconds)
        self.board.count(not isinstance(result, Failed), seconds)
        return result

    def _on_trouble(self, error: BaseException) -> None:
        self.line.disconnect()

    def _forget_unread_replies(self) -> None:
        """A limit may have been over between a command and its reply, which must not
        be read as the answer to the next command."""
        self.executor.timer.rang = False
        self.line.disconnect()
        self.state.broker.close()

    def _log_received(self, stored: StoredJob) -> None:
        extra = joblines.log_extra(stored)
        line = joblog.received(extra["task"], stored.id)
        logger.info("%s", line, extra=extra)

    def _hard_limit(self, stored: StoredJob) -> float | None:
        try:
            return stored.limits.time_limit
        except TaskQueueError:
            return None  # the executor says what is wrong with it

    def _store(self, stored: StoredJob, lease: Lease, result: Outcome) -> None:
        """Store an outcome that is more than an end."""
        client = self.line.client
        try:
            accepted, _ = self.line.until_answered(
                lambda again: outcome.store(
                    client, self.state, stored, lease, result, None, again=again
                ),
                needed=True,
            )
        except ResponseError:
            # Something overwrote the job's keys: that must not end the slot.
            logger.exception("Job %s: its result cannot be stored", lease.id)
            return
        if not accepted:
            refused(lease.id)
        elif has_webhooks(stored):
            self.board.returned(-1)  # It is no longer this slot's.
            ended = self.line.until_answered(
                lambda _: webhooks.as_ended(client, stored)
            )
            webhooks.send_after(self.executor, ended, result)

    def _noted(self, following: Next) -> Next:
        """What a claim got, once the slot has seen to what the claim met."""
        if following.notes:
            self.asking.settle()
        for note in following.notes:
            self._see_to(note)
        return following

    def _see_to(self, note: Note) -> None:
        if note.kind != "aftermath":
            notes.tell(note, self.state, self.line)
            return
        killed = notes.killed(note, self.line, self.executor)
        is_done = True
        if killed is not None:
            # No job is held meanwhile: only the hard limit is the supervisor's to keep.
            self.board.begin(-1, aftermath.HARD_LIMIT)
            self.line.say(LIMITED)
            is_done = aftermath.run(self.executor, killed)
            self.board.returned(-1)
            if self.executor.timer.rang:
                self._forget_unread_replies()
        if is_done:
            self.line.until_answered(lambda _: aftermath.done(self.line.client, note))

    def _wait(self, held_back: bool) -> bool:
        """Sleep until there may be a job; ``False`` when it is time to end."""
        self.line.say(self.asking.worn or (HELD_BACK if held_back else IDLE))
        while True:
            byte = self.line.listen(None)
            if byte == WAKE:
                return True
            if self.board.stopping:
                return False
