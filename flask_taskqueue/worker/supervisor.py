"""Looks after one worker: leases, due jobs, waking, what it is told, stopping.

No user code runs here. Single-threaded; every turn ends within a second.
"""

from __future__ import annotations

import logging
import os
import select
import time
import typing as t
from collections.abc import Callable
from functools import partial

from blinker import NamedSignal
from redis import Redis

from .. import context, keys, signals, unpatched
from ..appstate import AppState
from . import orders, standing
from .burial import Burials, return_unknown
from .handover import Heritage
from .kills import runs
from .lines import Lines
from .notifying import Notifier
from .overrun import LOOK_EVERY, Overruns
from .pools import Pool
from .reloading import Reload
from .signalled import Signals
from .staff import Staff
from .startup import WorkerOptions
from .upkeep import RENEW_EVERY, Upkeep

if t.TYPE_CHECKING:
    # Loaded by workers with a beat only.
    from .embedded_beat import EmbeddedBeat
    from .health import Health

logger: logging.Logger = logging.getLogger(__name__)

DONE, GAVE_BACK, NO_CHILDREN = 0, 75, 70
"""Exit codes: every running job finished; jobs were given back; its children
cannot start."""


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
        self.overruns: Overruns = Overruns(self.client, queues)
        self.staff: Staff = Staff(
            name, queues, options.concurrency, self.burials,
            lifetime=options.lifetime, limits=options.limits,
            claim_ahead=options.claim_ahead,
        )  # fmt: skip
        self.signals: Signals = Signals()
        self.notifier: Notifier = Notifier(os.environ)
        self.health: Health | None = None
        self.beat: EmbeddedBeat | None = None
        """Looked after beside the children, where the worker was asked for one."""
        self.reload: Reload = Reload(self)
        self._gave_back = False
        self._announced = False
        self.quiet: bool = False
        self._stop_at: float | None = None

    def use(self, pool: Pool) -> None:
        """Say where children come from. Before :meth:`run`."""
        self.staff.pool = pool

    def disown(self) -> None:
        """In a forked child: close what is this supervisor's."""
        self.staff.disown()
        self.lines.disown()
        self.signals.disown()
        if self.health is not None:
            self.health.close()

    def request_stop(self, timeout: float | None = None) -> None:
        """Claim nothing more; kill what still runs after ``timeout`` seconds."""
        if not self.stopping:
            self.notifier.stopping()
        timeout = self.options.shutdown_timeout if timeout is None else timeout
        until = time.monotonic() + timeout
        if self._stop_at is None or until < self._stop_at:
            self._stop_at = until
        self.hold()

    def be_quiet(self) -> None:
        """Claim nothing more, let what runs end, and stay."""
        if not self.quiet:
            self.quiet = True
            logger.info("Quiet: finishing what runs, taking nothing more")
            self.hold()

    def adopt(self, heritage: Heritage) -> None:
        """Go on as the worker that this program was before. Before :meth:`run`."""
        self.staff.adopt(heritage)
        self.upkeep.adopt(heritage)

    def hold(self) -> None:
        """Let children claim nothing more, and see to it that they look."""
        self.upkeep.clock.renew = 0.0  # Its record says so.
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
                if self._is_over or self.reload.heritage is not None:
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
    def stopping(self) -> bool:
        """It was told to stop."""
        return self._stop_at is not None

    @property
    def _takes(self) -> bool:
        """Children are to claim jobs."""
        return not standing.held_by(self)

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
        self._stamp()
        for number in self.signals.taken():
            orders.obey_signal(self, number)
        self.reload.tend()
        if self.lines.connect():
            self.upkeep.clock.renew = self.upkeep.clock.sweep = 0.0
        # First what jobs wait for; the rest of a turn takes longer than a short job.
        self._hear()
        self.lines.guard(self._wait)
        self.lines.guard(self._serve)
        self.staff.notice_deaths(stopping=not self._takes)
        self.staff.kills.enforce_limits()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self._gave_back = self.staff.kill_all() or self._gave_back
        self.lines.guard(self.burials.work_off)
        if self.lines.up and self._takes and not self.staff.hopeless:
            self.staff.hire()
        if self._takes:
            self.staff.hand_over()
        if self.beat is not None:
            self.beat.tend(stopping=self.stopping or self.reload.under_way)
        self.lines.guard(self.reload.leave)
        self.notifier.tend()
        if self.health is not None:
            self.health.serve(standing.unready(self))

    def _stamp(self) -> None:
        # Not without Redis: leases that it cannot renew are not to become more.
        if self.lines.up or not self._takes:
            self.staff.stamp(stopping=not self._takes)

    def _sleep(self) -> None:
        poll = unpatched.original("select", "poll")()
        filenos = [self.signals.fileno(), *self.staff.filenos(), *self.lines.filenos()]
        if self.health is not None:
            filenos += self.health.filenos()
        for descriptor in filenos:
            poll.register(descriptor, select.POLLIN)
        until = [self.upkeep.clock.next if self.lines.up else self.lines.retry_at]
        until += [self.notifier.deadline, self.reload.deadline]
        until += self.staff.kills.deadlines()
        if self.beat is not None:
            until.append(self.beat.deadline)
        if self._stop_at is not None:
            until.append(self._stop_at)
        # Never longer than a second: the slots look at the age of the stamp.
        timeout = min(max(min(until) - time.monotonic(), 0.0), 1.0)
        ready = self._poll(poll, timeout)
        if not ready.isdisjoint(self.lines.waiters.filenos()):
            self.lines.guard(self._wake)
        self.signals.drain()

    def _poll(self, poll: t.Any, timeout: float) -> set[int]:
        """Wait, and look after those that claim ahead meanwhile; what is ready."""
        until = time.monotonic() + timeout
        while self.staff.ahead and (rest := until - time.monotonic()) > 0:
            if events := poll.poll(min(rest, LOOK_EVERY) * 1000):
                return {descriptor for descriptor, _ in events}
            self.lines.guard(self._look)
            if not self.lines.up:
                return set()
        events = poll.poll(max(until - time.monotonic(), 0.0) * 1000)
        return {descriptor for descriptor, _ in events}

    def _look(self) -> None:
        self.staff.ahead &= self.overruns.look(self.staff.ahead)

    def _serve(self) -> None:
        clock = self.upkeep.clock
        now = time.monotonic()
        if self.upkeep.has_news(self.staff.seats):
            clock.renew = min(clock.renew, now + RENEW_EVERY)
        self._look()
        if now >= clock.renew:
            self._renew()
        if now >= clock.sweep:
            self.staff.wake(self.upkeep.sweep())
            self._wait()  # Queues may have been paused, or resumed.
        elif now >= clock.promote:
            self.upkeep.promote()
        for channel, data in self.lines.subscription.messages():
            if channel == keys.NAMES["wake"]:
                clock.promote = 0.0
            else:
                orders.obey_command(self, data)

    def _renew(self) -> None:
        self.upkeep.about = standing.fields(self)
        answer = self.upkeep.renew(self.staff.seats)
        for execution in answer.stop:
            self.staff.kills.terminate(partial(runs, execution))
        for execution in answer.lost:
            self.staff.kills.stop_lost(execution)
        seats = [*self.staff.seats, *self.burials.seats]
        return_unknown(self.client, answer.unknown, seats)

    def _hear(self) -> None:
        held_back = self.staff.hear()
        if held_back and not (self.upkeep.suspended or self.upkeep.paused):
            self.upkeep.clock.sweep = 0.0
        if not self._announced and self.staff.all_ready:
            self._announced = True
            logger.info("%s ready.", self.options.name)
            self.notifier.ready()
            self._announce(signals.worker_ready)
        if self.options.burst and self.staff.all_idle:
            self.request_stop()

    def _announce(self, signal: NamedSignal) -> None:
        """Send a signal: in every pool outside the command's app context."""
        app, name = self.state.app, self.options.name
        context.run_apart(lambda: signals.send(signal, app, worker=name))

    def _wake(self) -> None:
        self.staff.wake(self.lines.waiters.fired())

    def _wait(self) -> None:
        waiters, upkeep = self.lines.waiters, self.upkeep
        self._wake()
        if self.staff.some_idle and self._takes and not upkeep.suspended:
            waiters.arm([q for q in self.options.queues if q not in upkeep.paused])
        else:
            self.staff.wake(waiters.disarm())

    def _close(self) -> None:
        self.reload.close()
        goes_on = self.reload.heritage is not None
        if not goes_on:
            self.staff.close()
        if self.beat is not None:
            self.beat.close()
        if not goes_on:
            self.lines.guard(self.upkeep.unregister)
        self.lines.close()
        self._announce(signals.worker_shutdown)
        if self.health is not None:
            self.health.close()
        self.signals.close()
