"""What a slot asks of Redis: store these ends, give me the next jobs. It waits for the
answer, or hears it after the jobs that it runs meanwhile."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Sequence
from dataclasses import replace

from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..broker import scripts
from ..broker.exchange import Exchange
from ..broker.trouble import is_unavailable
from ..broker.wire import Argument, Claim, Claimed, Lease, Next
from .board import Board
from .line import AHEAD, Line, Place
from .pace import Pace

logger: logging.Logger = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds a claimed job is this worker's, unless its supervisor renews it."""

LEASE_SURE = LEASE - 1.0
"""Seconds after a claim was sent for which what it got is surely this worker's."""

STAMP_MOST = 6.0
"""Seconds without a sign of its supervisor after which a slot claims nothing."""

REFUSED_PAUSE = 1.0
"""Seconds until a slot claims again after the server refused the call."""

Row = list[Argument]
"""An end as ``finish`` takes it."""


class _Sent(t.NamedTuple):
    """A call whose answer was not heard yet.

    :param at: When it was sent, by the monotonic clock.
    """

    exchange: Exchange | None
    rows: list[Row]
    wanted: Claim
    at: float


class Asking:
    """One slot's calls for jobs.

    :ivar calls: The last number of an execution that what it runs belongs to.
    """

    def __init__(self, line: Line, pace: Pace) -> None:
        self.line = line
        self.place: Place = line.place
        self.board: Board = line.place.board
        self.calls: int = 0
        self._pace = pace
        self._numbers = 0
        self._asked_at = 0.0
        self._got_all = False
        self._told_ahead = False
        self._due: list[Row] = []
        self._sent: _Sent | None = None

    @property
    def is_sure(self) -> bool:
        """What it got last is surely its own still, if nobody took it back."""
        return time.monotonic() - self._asked_at <= LEASE_SURE

    @property
    def worn(self) -> bytes:
        """What the slot says where its child is worn out, else ``b""``."""
        return b"" if self.place.wear is None else self.place.wear.worn

    @property
    def is_under_way(self) -> bool:
        """The next jobs were asked for; :meth:`go_on` gets them."""
        return self._sent is not None

    def claim(self) -> Next:
        """Ask for jobs, and wait for the answer."""
        wanted = self._wanted()
        if wanted is None and self.worn:
            return Next()
        if wanted is None:
            # A supervisor that says nothing may be stopped: so are its leases.
            return Next(again=not self.board.stopping and self.line.pause(0.5))
        asked_at = time.monotonic()
        try:
            following = self.line.until_answered(
                lambda again: scripts.claim(self.line.exchange, wanted, again=again)
            )
        except ResponseError:
            # A queue's keys hold something else, or the server lets us do nothing.
            logger.exception("No job can be claimed; trying again")
            following = Next(again=self.line.pause(REFUSED_PAUSE))
        return self._answered(following, wanted, asked_at)

    def _wanted(self, *, ahead: bool = False) -> Claim | None:
        # ahead: jobs are at hand, so none of the next is about to run.
        board, place = self.board, self.place
        if board.stopping or board.stamp_age > STAMP_MOST or self.worn:
            return None
        first, most = self._numbers + 1, self._pace.jobs
        self._numbers += most
        return Claim(
            place.worker, place.prefix, first, LEASE, place.queues, most, ahead
        )

    def begin(self) -> None:
        """Called before the first of the jobs at hand: if they take little, the next
        are asked for now, with the ends of those before."""
        wanted = None
        if self._got_all and self._pace.is_brisk:
            wanted = self._wanted(ahead=True)
        if wanted is None:
            self.settle()
        else:
            rows, self._due = self._due, []
            self._send(rows, wanted)

    def _send(self, rows: list[Row], wanted: Claim) -> None:
        self.board.asks(wanted.first, wanted.last)
        if not self._told_ahead:
            self.line.say(AHEAD)
            self._told_ahead = True
        exchange, asked_at = self.line.connected, time.monotonic()
        self._sent = _Sent(exchange, rows, wanted, asked_at)
        if exchange is not None:
            try:
                scripts.finish_sending(exchange, rows, wanted)
            except (RedisError, OSError) as error:
                if not is_unavailable(error):
                    raise
                self.line.disconnect()  # It is sent again when its answer is needed.

    def go_on(self, rows: list[Row]) -> Next:
        """Get the next jobs, and see to it that ends are stored.

        Where jobs were asked for meanwhile, the ends are kept on the board: they are
        sent with the next call, or by :meth:`settle`.
        """
        if self._sent is None:
            return self.ask(rows)
        following = self._received(keeps=True)
        if not following.jobs:
            # What the ends lead to, others may wait for.
            return self.ask(rows)
        self._due = rows
        return following

    def settle(self) -> None:
        """Store the ends that are still to be sent."""
        rows, self._due = self._due, []
        if rows:
            self.store(rows)
            self.board.confirmed()

    def ask(self, rows: list[Row]) -> Next:
        """Store ends, ask for jobs, and wait for the answer."""
        wanted, asked_at = self._wanted(), time.monotonic()
        following = self._stored(rows, wanted)
        if wanted is None:
            return self.claim()
        return self._answered(following, wanted, asked_at)

    def store(self, rows: list[Row]) -> None:
        """Store ends."""
        self._stored(rows, None)

    def received(self) -> Next:
        """The answer to what was asked for meanwhile, or to a call made now."""
        return self.claim() if self._sent is None else self._received()

    def given_back(self, leases: Sequence[Lease]) -> Next:
        """Give back what is not begun, and what was asked for meanwhile behind that;
        the answer to a call made then."""
        if self._sent is None:
            self._release(leases)
            return self.claim()
        return self._received(back=leases)

    def _received(self, *, keeps: bool = False, back: Sequence[Lease] = ()) -> Next:
        # keeps: there are ends on the board that are not stored.
        sent, self._sent = t.cast(_Sent, self._sent), None

        def ask(again: bool) -> tuple[Sequence[int], Next]:
            exchange = self.line.exchange
            if again or exchange is not sent.exchange:
                # Whether it was heard is not known; to repeat it is no harm.
                return scripts.finish_rows(exchange, sent.rows, sent.wanted, again=True)
            try:
                return scripts.finish_received(exchange)
            except NoScriptError:
                return scripts.finish_rows(exchange, sent.rows, sent.wanted, again=True)

        try:
            codes, following = self.line.until_answered(ask, needed=True)
        except ResponseError:
            codes, following = None, Next(again=True)
        if codes is None:
            self.store(sent.rows)
        else:
            self._told(sent.rows, codes)
        self.board.confirmed()
        is_own = self.board.right.take()
        if back or not is_own:
            # What the supervisor took it may not have found.
            self._release([*back, *(each.lease for each in following.jobs)])
            following = replace(following, jobs=(), again=True)
        # Or it could take the next right for that to these.
        while not is_own and self.board.intercepted < sent.wanted.last:
            self.line.listen(0.05)
        return self._answered(following, sent.wanted, sent.at, keeps=keeps)

    def _release(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        self.line.until_answered(
            lambda _: scripts.release(self.line.client, leases, started=False),
            needed=True,
        )

    def _stored(self, rows: list[Row], wanted: Claim | None) -> Next:
        """Store ends in one call, and take the next jobs."""
        try:
            codes, following = self.line.until_answered(
                lambda again: scripts.finish_rows(
                    self._sender, rows, wanted, again=again
                ),
                needed=True,
            )
        except ResponseError:
            # Something overwrote a job's keys: that must not end the slot, nor keep
            # another job's result out.
            if len(rows) == 1:
                logger.exception("Job %s: its result cannot be stored", rows[0][0])
            else:
                for row in rows:
                    self._stored([row], None)
            return Next(again=True)
        self._told(rows, codes)
        return following

    @property
    def _sender(self) -> t.Any:
        """Not the connection on which an answer is to come."""
        return self.line.exchange if self._sent is None else self.line.client

    def _told(self, rows: list[Row], codes: Sequence[int]) -> None:
        for row, code in zip(rows, codes, strict=True):
            if code == scripts.REFUSED:
                refused(str(row[0]))

    def _answered(
        self, following: Next, wanted: Claim, asked_at: float, *, keeps: bool = False
    ) -> Next:
        """Take note of what a claim got."""
        jobs: tuple[Claimed, ...] = following.jobs
        self.calls, self._asked_at = wanted.last, asked_at
        # First of all: while the slot sees to the notes its leases are to be renewed.
        leases = [each.lease for each in jobs]
        self.board.claimed(self.calls, leases, sent=keeps, ahead=wanted.ahead)
        self._got_all = len(jobs) == wanted.most
        if len(jobs) > 1:
            self.board.tokens.add(len(jobs) - 1)
            if not self._told_ahead:
                self.line.say(AHEAD)
        self._told_ahead = len(jobs) > 1
        return following


def refused(job_id: str) -> None:
    """Log that somebody else runs a job, or has ended it."""
    logger.warning(
        "Job %s: its result came after its lease was lost, and was refused", job_id
    )
