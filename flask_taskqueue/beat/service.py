"""``Beat``: writes the entries of the code to Redis, then fires what is due there.

Any number may run. One of an app's leads and looks; the others stand by. Nothing is
fired twice by two that think they lead: the script of a tick decides.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from redis import Redis

from .. import context, keys, signals
from ..appstate import AppState
from ..worker.lines import Lines
from . import scripts, syncing
from .entries import Entry
from .scripts import Look
from .setbacks import Setbacks
from .strays import Strays
from .ticking import Ticker

logger: logging.Logger = logging.getLogger(__name__)

LEASE = 4.0
"""Seconds a beat leads from its last look."""

RENEW_EVERY = 1.3
"""Seconds between two looks of the one that leads: two may be lost."""

STAND_BY = 2.0
"""Seconds between two looks of the others at most."""

MOST = 500
"""Entries that one look returns at most."""


class Beat:
    """One beat of one app.

    :param name: Not used by any other process, now or before.
    :param entries: Those the code declares.
    :param on_ready: Called once, when these are in Redis.
    :param orphaned: Asked in each turn: the beat stops when it says that the process
        that started it has ended.
    """

    def __init__(
        self,
        state: AppState,
        name: str,
        entries: Sequence[Entry],
        *,
        on_ready: Callable[[], None] = lambda: None,
        orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        self.state = state
        self.name = name
        self._app_name: str = state.app.name
        self._entries = entries
        self._on_ready: Callable[[], None] | None = on_ready
        self._orphaned = orphaned
        self._stopping = False
        self._leads: bool | None = None
        self._next_look = 0.0
        self._lines = Lines(state, (keys.NAMES["entries_changed"],))
        self._client: Redis = self._lines.client
        self._ticker = Ticker(state, self._client, lambda: self._stopping)
        self._strays = Strays(self._client)
        self._setbacks = Setbacks(state, self._client)
        self._has_signals = False
        # Not a pipe: request_stop() may come after the end, when a pipe's descriptor
        # may be another file's. A closed socket object only raises.
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)

    def install_signals(self, *numbers: signal.Signals) -> None:
        """Let signals stop it. In the main thread.

        :param numbers: TERM and INT if none are given.
        """
        self._has_signals = True
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        for number in numbers or (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._obey)

    def _obey(self, number: int, frame: object) -> None:
        if self._stopping and number == signal.SIGINT:
            # The second one ends it at once, whatever it is doing.
            raise KeyboardInterrupt
        self._stopping = True

    def request_stop(self) -> None:
        """Finish the tick, let another one lead, and end. From any thread."""
        self._stopping = True
        # A full socket wakes it all the same; a closed one says that it has ended.
        with contextlib.suppress(OSError):
            self._wakeup_end.send(b"\0")

    def run(self) -> None:
        """Work until stopped.

        :raises ConfigError: The server cannot carry the queue.
        """
        try:
            while not self._stopping:
                self._turn()
                if not self._stopping:
                    self._sleep()
            logger.info("%s stops", self.name)
            self._lines.guard(self._step_down)
        finally:
            self._close()

    def _turn(self) -> None:
        if self._orphaned():
            self._stopping = True
            return
        if self._lines.connect():
            self._next_look = 0.0
        self._lines.guard(self._hear)
        if time.monotonic() >= self._next_look:
            self._lines.guard(self._work)

    def _hear(self) -> None:
        changed = self._app_name.encode()
        if any(app == changed for _, app in self._lines.subscription.messages()):
            self._next_look = 0.0

    def _work(self) -> None:
        """One look, and what follows from it."""
        if self._on_ready is not None:
            syncing.synchronise(self.state, self._client, self._entries)
            ready, self._on_ready = self._on_ready, None
            ready()
        look = self._look()
        if look.leads and not look.synced:
            syncing.synchronise(self.state, self._client, self._entries)
            logger.warning(
                "The entries were gone from Redis: those of the code are written again"
            )
            look = self._look()
        at = time.monotonic()
        made: list[str] = []
        self._setbacks.follow_clock(look.now, leads=look.leads)
        if look.leads:
            self._ticker.note_cancelled(look.cancelled)
            made = self._ticker.tick(look)
            if look.known:  # Otherwise the entries of others fire.
                self._strays.search(foreign=look.foreign)
        self._announce(made)
        self._next_look = at + self._wait_after(look)

    def _look(self) -> Look:
        # Entries that rest are due, too, and come first: ask for so many more.
        most = MOST + len(self._ticker.troubles)
        look = scripts.lead(
            self._client, self._app_name, self.name, lease=LEASE, most=most
        )
        if look.leads != self._leads:
            self._leads = look.leads
            logger.info("%s %s", self.name, "leads" if look.leads else "stands by")
        return look

    def _wait_after(self, look: Look) -> float:
        """Seconds from a look to the next."""
        if not look.leads:
            return min(max(look.lapse, 0.0), STAND_BY)
        troubles = self._ticker.troubles
        if any(not troubles.rests(due.id) for due in look.due):
            return 0.0
        waits = [RENEW_EVERY, troubles.next_end - time.monotonic()]
        if look.next_due is not None:
            waits.append(look.next_due)
        return max(min(waits), 0.0)

    def _announce(self, made: Sequence[str]) -> None:
        if signals.beat_tick.receivers:
            app, name, jobs = self.state.app, self.name, tuple(made)
            context.run_apart(
                lambda: signals.send(signals.beat_tick, app, beat=name, jobs=jobs)
            )

    def _step_down(self) -> None:
        if self._leads:
            scripts.step_down(self._client, self._app_name, self.name)

    def _sleep(self) -> None:
        poll = select.poll()
        for descriptor in (self._wakeup.fileno(), *self._lines.filenos()):
            poll.register(descriptor, select.POLLIN)
        until = self._next_look if self._lines.up else self._lines.retry_at
        poll.poll(max(until - time.monotonic(), 0.0) * 1000)
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)

    def _close(self) -> None:
        self._lines.close()
        if self._has_signals:
            signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self._wakeup_end.close()
