"""Looks after one worker: signals, leases, commands, due jobs, waking, stopping.

No user code runs here. Single-threaded; every turn ends within a second.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import threading
import time
import typing as t
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from blinker import NamedSignal
from redis import Redis

from .. import context, keys, signals
from ..appstate import AppState
from .burial import Burials, return_unknown
from .lines import Lines
from .pools import Pool
from .staff import Staff, runs, runs_job
from .upkeep import RENEW_EVERY, Upkeep

if t.TYPE_CHECKING:
    # Loaded by workers with a beat only.
    from .embedded_beat import EmbeddedBeat

logger: logging.Logger = logging.getLogger(__name__)

DONE, GAVE_BACK, NO_CHILDREN = 0, 75, 70
"""Exit codes: every running job finished; jobs were given back; its children
cannot start."""


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

    def __init__(self, state: AppState, options: WorkerOptions) -> None:
        self.state = state
        self.options = options
        name, queues = options.name, options.queues
        channels = (keys.NAMES["wake"], keys.commands(name))
        self.lines: Lines = Lines(state, channels, queues)
        self.client: Redis = self.lines.client
        self.upkeep: Upkeep = Upkeep(state, self.client, name, queues)
        self.burials: Burials = Burials(state, self.client, queues)
        self.staff: Staff = Staff(name, queues, options.concurrency, self.burials)
        self.beat: EmbeddedBeat | None = None
        """Looked after beside the children, where the worker was asked for one."""
        self._gave_back = False
        self._announced = False
        self._asked: deque[int] = deque()
        self._stop_at: float | None = None
        self._wakeup, self._wakeup_end = os.pipe()
        for descriptor in (self._wakeup, self._wakeup_end):
            os.set_blocking(descriptor, False)

    def install_signals(self) -> None:
        """Take over TERM, INT, QUIT and CHLD. In the main thread."""
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda n, _: self._asked.append(n))
        # A handler is needed for CHLD to wake the loop.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def use(self, pool: Pool) -> None:
        """Say where children come from. Before :meth:`run`."""
        self.staff.pool = pool

    def disown(self) -> None:
        """In a forked child: close what is this supervisor's."""
        self.staff.disown()
        self.lines.disown()
        os.close(self._wakeup)
        os.close(self._wakeup_end)

    def request_stop(self, timeout: float | None = None) -> None:
        """Claim nothing more; kill what still runs after ``timeout`` seconds."""
        timeout = self.options.shutdown_timeout if timeout is None else timeout
        until = time.monotonic() + timeout
        if self._stop_at is None or until < self._stop_at:
            self._stop_at = until
        self.staff.stamp(stopping=True)
        self.staff.wake_all()

    def run(self, on_staffed: Callable[[], None] = lambda: None) -> int:
        """Work until stopped; the exit code.

        :param on_staffed: Called when there are children, and once in any case.
        """
        try:
            while True:
                self._turn()
                if self.staff.children:
                    on_staffed()
                if self._is_over:
                    break
                self._sleep()
        finally:
            on_staffed()
            self._close()
        if self.staff.hopeless:
            logger.error("The worker's children cannot start; see above")
            return NO_CHILDREN
        return GAVE_BACK if self._gave_back else DONE

    @property
    def _stopping(self) -> bool:
        return self._stop_at is not None

    @property
    def _is_over(self) -> bool:
        if self.staff.children:
            return False
        if self._stop_at is None:
            return self.staff.hopeless
        if self.beat is not None and not self.beat.is_over:
            return False
        # Without Redis nothing can be given back: the leases run out then.
        return not self.burials.holding or time.monotonic() >= self._stop_at

    def _turn(self) -> None:
        self.staff.stamp(stopping=self._stopping)
        self._obey_signals()
        if self.lines.connect():
            self.upkeep.clock.renew = self.upkeep.clock.sweep = 0.0
        self.lines.guard(self._serve)
        self._hear()
        self.staff.notice_deaths(stopping=self._stopping)
        self.staff.enforce_limits()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self._gave_back = self.staff.kill_all() or self._gave_back
        self.lines.guard(self.burials.work_off)
        if self.lines.up and not self._stopping and not self.staff.hopeless:
            self.staff.hire()
        if self.beat is not None:
            self.beat.tend(stopping=self._stopping)
        self.lines.guard(self._wait)

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        for descriptor in (*self.staff.filenos(), *self.lines.filenos()):
            poll.register(descriptor, select.POLLIN)
        until = [self.upkeep.clock.next if self.lines.up else self.lines.retry_at]
        until += self.staff.deadlines()
        if self.beat is not None:
            until.append(self.beat.deadline)
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
        if self.upkeep.has_news(self.staff.seats):
            clock.renew = min(clock.renew, now + RENEW_EVERY)
        if now >= clock.renew:
            self._renew()
        if now >= clock.sweep:
            self.staff.wake(self.upkeep.sweep())
        elif now >= clock.promote:
            self.upkeep.promote()
        for channel, data in self.lines.subscription.messages():
            if channel == keys.NAMES["wake"]:
                clock.promote = 0.0
            else:
                self._obey(data)

    def _renew(self) -> None:
        answer = self.upkeep.renew(self.staff.seats)
        for execution in answer.stop:
            self.staff.terminate(partial(runs, execution))
        for execution in answer.lost:
            self.staff.stop_lost(execution)
        seats = [*self.staff.seats, *self.burials.seats]
        return_unknown(self.client, answer.unknown, seats)

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
            self.staff.terminate(partial(runs_job, job_id))

    def _hear(self) -> None:
        held_back = self.staff.hear()
        if held_back and not (self.upkeep.suspended or self.upkeep.paused):
            self.upkeep.clock.sweep = 0.0
        if not self._announced and self.staff.all_ready:
            self._announced = True
            logger.info("%s ready.", self.options.name)
            self._announce(signals.worker_ready)
        if self.options.burst and self.staff.all_idle:
            self.request_stop()

    def _announce(self, signal: NamedSignal) -> None:
        """Send a signal: in every pool outside the command's app context."""
        app, name = self.state.app, self.options.name
        context.run_apart(lambda: signals.send(signal, app, worker=name))

    def _wait(self) -> None:
        waiters, upkeep = self.lines.waiters, self.upkeep
        self.staff.wake(waiters.fired())
        if self.staff.some_idle and not self._stopping and not upkeep.suspended:
            waiters.arm([q for q in self.options.queues if q not in upkeep.paused])
        else:
            self.staff.wake(waiters.disarm())

    def _close(self) -> None:
        self.staff.close()
        if self.beat is not None:
            self.beat.close()
        self.lines.guard(self.upkeep.unregister)
        self.lines.close()
        self._announce(signals.worker_shutdown)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup_end)
        os.close(self._wakeup)
