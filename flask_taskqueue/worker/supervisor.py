"""Looks after one worker's slots: signals, leases, deaths, due jobs, waking.

No user code runs here. Single-threaded; every turn ends within a second.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
import typing as t
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .. import keys, signals
from ..appstate import AppState
from . import burial
from .board import Board, Seen
from .lines import Lines
from .loop import HELD_BACK, IDLE, Place
from .pools import Child, Pool
from .upkeep import Upkeep

logger = logging.getLogger(__name__)

DONE, GAVE_BACK, NO_CHILDREN = 0, 75, 70
"""Exit codes: every running job finished; jobs were given back; its children
cannot start."""

QUICK_DEATHS_MOST = 5
"""Children in a row that die before they are ready, after which it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker was started.

    :param name: Unique among all workers of all time.
    :param shutdown_timeout: Seconds running jobs may take after a request to stop.
    """

    name: str
    queues: tuple[str, ...]
    concurrency: int
    burst: bool = False
    shutdown_timeout: float = 25.0


class Supervisor:
    """One worker."""

    def __init__(
        self, state: AppState, options: WorkerOptions, pool: Pool | None = None
    ) -> None:
        self.state = state
        self.options = options
        self.pool: Pool | None = pool
        self.lines = Lines(state, options.name, options.queues)
        self.client = self.lines.client
        self.upkeep = Upkeep(state, self.client, options.name, options.queues)
        self.children: list[Child] = []
        self._idle: list[Child] = []
        self._ready: set[str] = set()
        self._made = 0
        self._quick_deaths = 0
        self._gave_back = False
        self._announced = False
        self._asked: deque[int] = deque()
        self._stop_at: float | None = None
        self._wakeup, self._wakeup_end = os.pipe()
        for descriptor in (self._wakeup, self._wakeup_end):
            os.set_blocking(descriptor, False)

    # --- from outside ---

    def install_signals(self) -> None:
        """Take over TERM, INT, QUIT and CHLD. In the main thread."""
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda n, _: self._asked.append(n))
        # A handler is needed for CHLD to wake the loop.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def disown(self) -> None:
        """In a forked child: close what is this supervisor's."""
        for child in self.children:
            child.close()
        self.lines.disown()
        os.close(self._wakeup)
        os.close(self._wakeup_end)

    def request_stop(self, timeout: float | None = None) -> None:
        """Claim nothing more; kill what still runs after ``timeout`` seconds."""
        timeout = self.options.shutdown_timeout if timeout is None else timeout
        until = time.monotonic() + timeout
        if self._stop_at is None or until < self._stop_at:
            self._stop_at = until
        for child in self.children:
            child.board.stamp(stopping=True)
            child.wake()

    # --- the loop ---

    def run(self, on_staffed: Callable[[], None] = lambda: None) -> int:
        """Work until stopped; the exit code.

        :param on_staffed: Called when there are children, and once in any case.
        """
        try:
            while True:
                self._turn()
                if self.children:
                    on_staffed()
                if not self.children and (self._stopping or self._hopeless):
                    break
                self._sleep()
        finally:
            on_staffed()
            self._close()
        if self._hopeless:
            logger.error("The worker's children cannot start; see above")
            return NO_CHILDREN
        return GAVE_BACK if self._gave_back else DONE

    @property
    def _stopping(self) -> bool:
        return self._stop_at is not None

    @property
    def _hopeless(self) -> bool:
        return self._quick_deaths >= QUICK_DEATHS_MOST

    def _turn(self) -> None:
        for child in self.children:
            child.board.stamp(stopping=self._stopping)
        self._obey_signals()
        if self.lines.connect():
            self.upkeep.clock.renew = self.upkeep.clock.sweep = 0.0
        self.lines.guard(self._serve)
        self._listen()
        self.lines.guard(self._bury)
        self.lines.guard(self._enforce_limits)
        self.lines.guard(self._enforce_stop)
        self._staff()
        self.lines.guard(self._wait)

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        for child in self.children:
            poll.register(child.fileno(), select.POLLIN)
        for descriptor in self.lines.filenos():
            poll.register(descriptor, select.POLLIN)
        until = [self.upkeep.clock.next if self.lines.up else self.lines.retry_at]
        until += [d for c in self.children if (d := c.board.read().deadline)]
        if self._stop_at is not None:
            until.append(self._stop_at)
        # Never longer than a second: the slots look at the age of the stamp.
        timeout = min(max(min(until) - time.monotonic(), 0.0), 1.0)
        poll.poll(timeout * 1000)
        while True:
            try:
                if len(os.read(self._wakeup, 4096)) < 4096:
                    return
            except BlockingIOError:
                return

    # --- one duty each ---

    def _obey_signals(self) -> None:
        while self._asked:
            number = self._asked.popleft()
            again = self._stopping and number == signal.SIGINT
            now = number == signal.SIGQUIT or again
            name = signal.Signals(number).name
            if now:
                logger.warning("%s: stopping at once", name)
            elif not self._stopping:
                logger.info("%s: finishing what runs, then stopping", name)
            self.request_stop(0.0 if now else None)

    def _serve(self) -> None:
        clock = self.upkeep.clock
        now = time.monotonic()
        if any(c.board.read().lease for c in self.children):
            clock.renew = min(clock.renew, now + 3.0)
        if now >= clock.renew:
            self._renew()
        if now >= clock.sweep:
            ready = self.upkeep.sweep().ready
            self._wake(len(ready))
        elif now >= clock.promote:
            self.upkeep.promote()
        for channel, data in self.lines.subscription.messages():
            if channel == keys.NAMES["wake"]:
                clock.promote = 0.0
            else:
                self._obey(data)

    def _renew(self) -> None:
        answer = self.upkeep.renew(self.children)
        for child in list(self.children):
            lease = child.board.read().lease
            if lease is None:
                continue
            if lease.execution in answer.stop:
                self._stop_job(child, lambda seen: seen.lease == lease)  # noqa: B023
            elif lease.execution in answer.lost and self._kill(child, lease.execution):
                logger.warning("Job %s is somebody else's by now: stopped", lease.id)
        burial.return_unknown(self.client, answer.unknown, self.children)

    def _obey(self, data: bytes) -> None:
        """A command sent by RQ's ``send_*_command``, or by ``revoke``."""
        try:
            command = json.loads(data)
            kind, job_id = command["command"], command.get("job_id")
        except (ValueError, LookupError, TypeError, AttributeError):
            logger.warning("A command was not understood: %.200r", data)
            return
        if kind == "shutdown":
            self.request_stop()
        elif kind == "stop-job":
            for child in list(self.children):
                self._stop_job(child, lambda s: bool(s.lease and s.lease.id == job_id))

    def _stop_job(self, child: Child, meant: Callable[[Seen], bool]) -> None:
        if meant(child.board.read()) and child.kill(meant):
            lease = child.board.read().lease
            self._remove(child)
            burial.end_terminated(self.state, self.client, child, self.options.queues)
            logger.info("Job %s was terminated", lease.id if lease else "?")

    def _kill(self, child: Child, execution: str) -> bool:
        killed = child.kill(
            lambda seen: bool(seen.lease and seen.lease.execution == execution)
        )
        if killed:
            self._remove(child)
            burial.release_rest(self.client, child, self.options.queues)
        return killed

    def _enforce_limits(self) -> None:
        for child in list(self.children):
            if not _is_overdue(child.board.read()):
                continue
            if child.kill(_is_overdue):
                self._remove(child)
                burial.end_overdue(self.state, self.client, child, self.options.queues)

    def _enforce_stop(self) -> None:
        if self._stop_at is None or time.monotonic() < self._stop_at:
            return
        for child in list(self.children):
            if child.kill():
                self._remove(child)
                given = burial.release_running(self.client, child, self.options.queues)
                self._gave_back = self._gave_back or given

    def _bury(self) -> None:
        """Take back what dead children held. Until Redis answers they stay dead."""
        for child in list(self.children):
            death = child.death()
            if death is None:
                continue
            expected = self._stopping and death == "exit status 0"
            if not expected:
                logger.warning("Child %s of the worker died: %s", child.label, death)
                burial.recover(self.client, child, death, self.options.queues)
                if child.label not in self._ready:
                    self._quick_deaths += 1
            self._remove(child)

    def _remove(self, child: Child) -> None:
        self.children.remove(child)
        if child in self._idle:
            self._idle.remove(child)
        self.upkeep.forget(child.label)
        child.close()

    def _staff(self) -> None:
        """Make the children that are missing."""
        if self._stopping or self._hopeless or self.pool is None or not self.lines.up:
            return
        while len(self.children) < self.options.concurrency:
            self.children.append(self.pool.start(self._place))

    def _place(self, board: Board, channel: t.Any) -> Place:
        self._made += 1
        return Place(
            worker=self.options.name,
            label=str(self._made),
            queues=self.options.queues,
            board=board,
            channel=channel,
        )

    def _listen(self) -> None:
        for child in self.children:
            heard = child.hear()
            if not heard:
                continue
            self._ready.add(child.label)
            self._quick_deaths = 0
            if (IDLE in heard or HELD_BACK in heard) and child not in self._idle:
                self._idle.append(child)
            if HELD_BACK in heard and not self._held_back:
                self.upkeep.clock.sweep = 0.0
        if not self._announced and len(self._ready) >= self.options.concurrency:
            self._announced = True
            logger.info("%s ready.", self.options.name)
            signals.send(signals.worker_ready, self.state.app, worker=self.options.name)
        if self.options.burst and len(self._idle) == self.options.concurrency:
            self.request_stop()

    @property
    def _held_back(self) -> bool:
        return self.upkeep.suspended or bool(self.upkeep.paused)

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._idle))):
            self._idle.pop(0).wake()

    def _wait(self) -> None:
        self._wake(self.lines.waiters.fired())
        waits = self._idle and not self._stopping and not self.upkeep.suspended
        if waits:
            paused = self.upkeep.paused
            self.lines.waiters.arm([q for q in self.options.queues if q not in paused])
        else:
            self._wake(self.lines.waiters.disarm())

    def _close(self) -> None:
        for child in self.children:
            child.kill()
        self.lines.guard(self.upkeep.unregister)
        self.lines.close()
        signals.send(signals.worker_shutdown, self.state.app, worker=self.options.name)
        os.close(self._wakeup)


def _is_overdue(seen: Seen) -> bool:
    return 0 < seen.deadline <= time.monotonic()
