"""Tells systemd how the worker is: ``Type=notify``, and its watchdog.

The protocol is that of sd_notify(3): lines in a datagram to a Unix socket.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger: logging.Logger = logging.getLogger(__name__)

LATER = float("inf")


class Notifier:
    """Says nothing where nobody listens.

    :param environ: With ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``, as systemd sets them.
    :ivar deadline: When :meth:`tend` is to be called next, by the monotonic clock.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An abstract one begins with a zero byte, written as "@".
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._every = _watchdog(environ) if path else LATER
        self.deadline: float = time.monotonic() if self._every < LATER else LATER

    def ready(self) -> None:
        """The worker takes jobs."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The worker loads the app anew, until it is ready again."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The worker stops."""
        self._send("STOPPING=1")

    def tend(self) -> None:
        """Say that the worker lives, when it is time to."""
        if time.monotonic() >= self.deadline:
            self._send("WATCHDOG=1")
            self.deadline = time.monotonic() + self._every

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                # Where nobody reads, a full queue must not hold up the supervisor.
                link.setblocking(False)
                link.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("systemd was not told %s: %s", lines[0], error)


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds between signs of life: half of what systemd allows."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not microseconds.isdecimal() or not int(microseconds) or not meant:
        return LATER
    return int(microseconds) / 2_000_000
