"""One slot: claim, execute, store, repeat."""

from __future__ import annotations

import logging
import select
import socket
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from .. import joblog
from ..appstate import AppState
from ..broker import scripts
from ..broker.connection import Backoff
from ..broker.trouble import is_unavailable
from ..broker.wire import Claim, Claimed, Next, Note
from ..errors import TaskQueueError
from ..job import StoredJob
from . import aftermath, callbacks, outcome
from .board import Board
from .endings import Failed, Outcome
from .execution import Executor
from .limits import Timer
from .reporter import JobReporter

logger: logging.Logger = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds a claimed job is this worker's, unless its supervisor renews it."""

STAMP_MOST = 6.0
"""Seconds without a sign of its supervisor after which a slot claims nothing."""

READY, IDLE, HELD_BACK, LIMITED = b"R", b"I", b"H", b"L"
"""What a slot sends: it is connected; it found nothing; it found nothing, and a queue
is paused; it began a job with a hard limit."""

REFUSED_PAUSE = 1.0
"""Seconds until a slot claims again after the server refused the call."""

WAKE = b"W"
"""What it is sent: there may be a job."""

Answer = t.TypeVar("Answer")


class Stopped(Exception):
    """The supervisor is gone: nothing may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a slot works.

    :param worker: Name of the worker.
    :param label: Names the slot among the worker's, anew for each child.
    :param channel: To the supervisor; its end of file means that it died.
    """

    worker: str
    label: str
    queues: tuple[str, ...]
    board: Board
    channel: socket.socket

    @property
    def prefix(self) -> str:
        """Beginning of the ids of the slot's executions."""
        return f"{self.worker}.{self.label}."


class Slot:
    """Runs one job after another until its supervisor says stop."""

    def __init__(self, state: AppState, place: Place, timer: Timer) -> None:
        self.state = state
        self.place = place
        self.board: Board = place.board
        self.client: Redis = state.broker.worker()
        self.executor: Executor = Executor(state, place.worker, timer, self.client)
        self._calls = 0
        self._connected = False

    def run(self) -> None:
        """Work until stopped. A job in hand is finished first."""
        try:
            following = self._claim()
            while not (following.job is None and self.board.stopping):
                if following.job is not None:
                    following = self._work(following.job)
                elif following.again or self._wait(following.held_back):
                    following = self._claim()
                else:
                    return
        except Stopped:
            return
        finally:
            self.client.close()

    def _work(self, claimed: Claimed) -> Next:
        lease = claimed.lease
        stored = StoredJob(lease.id, claimed.fields, lease.queue)
        limit = self._hard_limit(stored)
        self.board.begin(self._calls, lease, limit)
        if limit is not None:
            self._say(LIMITED)
        self._log_received(stored)
        reporter = JobReporter(
            self.client, self.state, lease, lambda error: self._disconnect()
        )
        result = self.executor.run(stored, reporter)
        self.board.returned()
        self._forget_unread_replies()
        outcome.log(self.state.config, stored, result)
        following = self._store(stored, claimed, result)
        failed = isinstance(result, Failed)
        self.board.count(not failed, getattr(result, "seconds", 0.0))
        return following

    def _forget_unread_replies(self) -> None:
        """A limit may have been over between a command and its reply, which must not
        be read as the answer to the next command."""
        timer = self.executor.timer
        if timer.rang:
            timer.rang = False
            self._disconnect()
            self.state.broker.close()

    def _log_received(self, stored: StoredJob) -> None:
        if logger.isEnabledFor(logging.INFO):
            extra = outcome.log_extra(stored)
            line = joblog.received(extra["task"], stored.id)
            logger.info("%s", line, extra=extra)

    def _hard_limit(self, stored: StoredJob) -> float | None:
        try:
            return stored.limit("time_limit")
        except TaskQueueError:
            return None  # the executor says what is wrong with it

    def _store(self, stored: StoredJob, claimed: Claimed, result: Outcome) -> Next:
        wanted = self._wanted()
        try:
            accepted, following = self._until_answered(
                lambda again: outcome.store(
                    self.client, self.state, stored, claimed.lease, result, wanted,
                    again=again,
                ),
                needed=True,
            )  # fmt: skip
        except ResponseError:
            # Something overwrote the job's keys: that must not end the slot.
            logger.exception("Job %s: its result cannot be stored", claimed.lease.id)
            return self._answered(Next(again=True))
        if not accepted:
            logger.warning(
                "Job %s: its result came after its lease was lost, and was refused",
                claimed.lease.id,
            )
        return self._answered(following)

    def _wanted(self) -> Claim | None:
        if self.board.stopping or self.board.stamp_age > STAMP_MOST:
            return None
        self._calls += 1
        execution = f"{self.place.prefix}{self._calls}"
        return Claim(self.place.worker, execution, LEASE, self.place.queues)

    def _claim(self) -> Next:
        wanted = self._wanted()
        if wanted is None:
            # A supervisor that says nothing may be stopped: so are its leases.
            return Next(again=not self.board.stopping and self._pause(0.5))
        try:
            following = self._until_answered(
                lambda again: scripts.claim(self.client, wanted, again=again),
                needed=False,
            )
        except ResponseError:
            # A queue's keys hold something else, or the server lets us do nothing.
            logger.exception("No job can be claimed; trying again")
            following = Next(again=self._pause(REFUSED_PAUSE))
        return self._answered(following)

    def _answered(self, following: Next) -> Next:
        if following.job is None:
            self.board.idle(self._calls)
        elif following.notes:
            # Receivers take their time: its lease is to be renewed meanwhile.
            self.board.begin(self._calls, following.job.lease, None)
        for note in following.notes:
            if note.kind == "aftermath":
                self._clear_up(note.id)
                continue
            level = logging.ERROR if note.kind == "quarantined" else logging.INFO
            logger.log(
                level, "Job %s of queue %s %s %s",
                note.id, note.queue, note.kind, note.reason,
                extra={"job_id": note.id, "queue": note.queue, "task": ""},
            )  # fmt: skip
            self._tell(note)
        return following

    def _tell(self, note: Note) -> None:
        state, client = self.state, self.client
        self._until_answered(
            lambda _: callbacks.dropped(state, client, note), needed=False
        )

    def _clear_up(self, job_id: str) -> None:
        executor, client = self.executor, self.client
        self._until_answered(
            lambda _: aftermath.run(executor, client, job_id), needed=False
        )
        self._until_answered(lambda _: aftermath.done(client, job_id), needed=False)

    def _wait(self, held_back: bool) -> bool:
        """Sleep until there may be a job; ``False`` when it is time to end."""
        self._say(HELD_BACK if held_back else IDLE)
        while True:
            byte = self._listen(None)
            if byte == WAKE:
                return True
            if self.board.stopping:
                return False

    def _listen(self, timeout: float | None) -> bytes:
        readable, _, _ = select.select([self.place.channel], [], [], timeout)
        if not readable:
            return b""
        byte = self.place.channel.recv(1)
        if not byte:
            raise Stopped
        return byte

    def _pause(self, seconds: float) -> bool:
        self._listen(seconds)
        return True

    def _say(self, byte: bytes) -> None:
        try:
            self.place.channel.send(byte)
        except OSError as error:
            raise Stopped from error

    def _until_answered(self, ask: Callable[[bool], Answer], *, needed: bool) -> Answer:
        """Repeat a call until Redis answers it; every call here bears that.

        :param ask: Called with whether it is a repetition.
        :param needed: Go on with it when the worker stops, too.
        :raises Stopped: The worker stops. What the call did, its supervisor undoes.
        """
        backoff, again = Backoff(), False
        while True:
            try:
                if not self._connected:
                    self._connect()
                return ask(again)
            except (RedisError, OSError) as error:
                if not is_unavailable(error):
                    raise
                self._disconnect()
                again = True
                self._pause(backoff.next())
                if self.board.stopping and not needed:
                    raise Stopped from error

    def _disconnect(self) -> None:
        self._connected = False
        self.client.connection_pool.disconnect()

    def _connect(self) -> None:
        client: scripts.Client = self.client
        self.board.connected(int(client.client_id()))
        self._connected = True
        self._say(READY)
