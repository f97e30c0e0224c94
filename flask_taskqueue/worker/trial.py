"""New code is tried in another process before a worker goes over to it."""

from __future__ import annotations

import logging
import os
import signal
import time
import typing as t

from ..unpatched import waitpid
from .handover import OTHER_VERSION, Start
from .memory import unnamed_file

logger: logging.Logger = logging.getLogger(__name__)

MOST = 120.0
"""Seconds the app may take to load."""

SHOWN_MOST = 4000
"""Bytes of what a failed trial said that are logged: its end."""


class Trial:
    """Loads the app as a worker does, in a process that ends then.

    :raises OSError: The system refused.
    :ivar deadline: When it has failed, by the monotonic clock.
    :ivar seconds: How long it took, once it has ended.
    :ivar same_version: Its Flask-TaskQueue is this one.
    """

    def __init__(self, start: Start) -> None:
        self.deadline: float = time.monotonic() + MOST
        self.seconds: float = 0.0
        self.same_version: bool = False
        self._output: t.IO[bytes] = open(unnamed_file(), "rb")
        self._code: int | None = None
        try:
            self._pid = start.trial(self._output.fileno())
        except OSError:
            self._output.close()
            raise

    def passed(self) -> bool | None:
        """Whether the app could be loaded; ``None`` until that is known."""
        code = self._look(os.WNOHANG)
        if code is None and time.monotonic() < self.deadline:
            return None
        self.seconds = time.monotonic() - (self.deadline - MOST)
        self.same_version = code == 0
        if code not in (0, OTHER_VERSION):
            said = f"{MOST:g} s are over" if code is None else self._said()
            logger.error(
                "The app cannot be loaded anew, the worker goes on with the old"
                " code:\n%s", said
            )  # fmt: skip
        self.close()
        return code in (0, OTHER_VERSION)

    def close(self) -> None:
        """End it."""
        if self._look(os.WNOHANG) is None:
            os.kill(self._pid, signal.SIGKILL)
            self._look(0)
        self._output.close()

    def _look(self, options: int) -> int | None:
        """Its exit code, ``None`` while it runs."""
        if self._code is None:
            pid, status = waitpid(self._pid, options)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _said(self) -> str:
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(end - SHOWN_MOST, 0))
        return self._output.read().decode(errors="replace").strip()
