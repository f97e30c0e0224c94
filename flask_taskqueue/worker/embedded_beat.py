"""The beat of ``flask worker -B``: a process or a thread that a worker looks after."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import signal
import threading
import time
import typing as t
from collections.abc import Callable, Sequence

from .. import unpatched
from ..appstate import AppState
from ..beat.entries import Entry
from ..beat.service import Beat
from .forked import described, fork
from .upkeep import LATER

logger: logging.Logger = logging.getLogger(__name__)

PAUSE_LOW, PAUSE_HIGH = 1.0, 10.0
"""Seconds until a beat that died is replaced: after its first death, and at most."""

LIVED = 60.0
"""Seconds a beat must have lived for its death to count as the first again."""

STOP_WAIT = 2.0
"""Seconds it may take to stop."""

STOP_LOOK = 0.05
"""Seconds between two looks whether it has stopped."""


class Running(t.Protocol):
    """A beat that was started."""

    def death(self) -> str | None:
        """How it ended, or ``None`` while it runs."""

    def stop(self) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """End it now, as far as that can be done."""


class BeatProcess:
    """A beat in a child of the worker's supervisor; runs as soon as it is made.

    :param disown: Called first in the child: closes what is the supervisor's.
    """

    def __init__(
        self,
        state: AppState,
        name: str,
        entries: Sequence[Entry],
        disown: Callable[[], None],
    ) -> None:
        self._death: str | None = None

        def work(parent: int) -> None:
            beat = Beat(state, name, entries, orphaned=lambda: os.getppid() != parent)
            beat.install_signals(signal.SIGTERM)
            beat.run()

        told = "The beat of the worker"
        self._pid = fork(state, told, disown, work, stops_at_term=True)

    def death(self) -> str | None:
        """How it ended, or ``None`` while it runs."""
        if self._death is None:
            pid, status = unpatched.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._death = described(status)
        return self._death

    def stop(self) -> None:
        """Send TERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send KILL, and wait for the end."""
        if self.death() is None:
            self._signal(signal.SIGKILL)
            unpatched.waitpid(self._pid, 0)
            self._death = "killed"

    def _signal(self, number: int) -> None:
        if self.death() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


class BeatThread:
    """A beat in a thread of the worker's process; runs as soon as it is made.

    It cannot be killed: what hangs in it ends with the process.
    """

    def __init__(self, state: AppState, name: str, entries: Sequence[Entry]) -> None:
        self._beat = Beat(state, name, entries)
        self._death: str | None = None
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            contextvars.Context().run(self._beat.run)
            self._death = "exit status 0"
        except Exception as error:
            logger.exception("The beat of the worker ended")
            self._death = type(error).__name__

    def death(self) -> str | None:
        """How it ended, or ``None`` while it runs."""
        return self._death

    def stop(self) -> None:
        """Ask it to stop."""
        self._beat.request_stop()

    def kill(self) -> None:
        """Leave it behind: it is a daemon."""


class EmbeddedBeat:
    """Keeps one beat running while its worker does.

    :param start: Makes one.
    """

    def __init__(self, start: Callable[[], Running]) -> None:
        self._start = start
        self._running: Running | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._stop_at = LATER
        self._pause = PAUSE_LOW

    @property
    def is_over(self) -> bool:
        """Whether no beat runs."""
        return self._running is None

    @property
    def deadline(self) -> float:
        """When :meth:`tend` must be called at the latest, by the monotonic clock."""
        if self._running is None:
            return self._start_at
        if self._stop_at == LATER:
            return LATER
        # The end of a thread wakes nobody.
        return min(self._stop_at, time.monotonic() + STOP_LOOK)

    def tend(self, *, stopping: bool) -> None:
        """Start it, replace one that died, stop it with the worker. Does not wait."""
        self._notice_death(stopping=stopping)
        if not stopping:
            self._hire()
        elif self._running is not None:
            self._let_go(self._running)
        else:
            self._start_at = LATER

    def _notice_death(self, *, stopping: bool) -> None:
        death = None if self._running is None else self._running.death()
        if death is None:
            return
        self._running = None
        if stopping:
            return
        now = time.monotonic()
        if now - self._started_at >= LIVED:
            self._pause = PAUSE_LOW
        logger.error(
            "The beat of the worker died (%s): a new one in %g s", death, self._pause
        )
        self._start_at = now + self._pause
        self._pause = min(self._pause * 2, PAUSE_HIGH)

    def _hire(self) -> None:
        now = time.monotonic()
        if self._running is not None or now < self._start_at:
            return
        self._started_at = now
        try:
            self._running = self._start()
        except OSError as error:
            logger.error("No beat can be started: %s", error)
            self._start_at = now + PAUSE_HIGH

    def _let_go(self, running: Running) -> None:
        now = time.monotonic()
        if self._stop_at == LATER:
            self._stop_at = now + STOP_WAIT
            running.stop()
        elif now >= self._stop_at:
            logger.warning("The beat of the worker did not stop: killed")
            running.kill()
            self._running = None

    def close(self) -> None:
        """End what is left of it now."""
        if self._running is not None:
            self._running.kill()
            self._running = None
