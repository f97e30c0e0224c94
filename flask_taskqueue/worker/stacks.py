"""What every process of a worker is doing, shown on request: its stacks and jobs."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import time
import typing as t
from collections.abc import Sequence

if t.TYPE_CHECKING:
    from .pools import Child, Seat

logger: logging.Logger = logging.getLogger(__name__)

STDERR = 2

PAUSE_MOST, PAUSES_MOST = 0.02, 0.5
"""Seconds a child gets to write before the next one is asked, and all together."""


def show_at_ttin(*, chain: bool = False) -> None:
    """From now on, at TTIN, write the stacks of all threads to stderr.

    C code does it: also while the process waits in a library or holds the GIL there.

    :param chain: Call the handler that Python has for it, too.
    """
    if hasattr(faulthandler, "register"):
        # Registering again leaves the handler as it is: after a fork it may be another.
        faulthandler.unregister(signal.SIGTTIN)
        faulthandler.register(signal.SIGTTIN, file=STDERR, chain=chain)


def ask(children: Sequence[Child]) -> None:
    """Log what each child runs, and let it show its stacks.

    One after another, so that their lines do not mix.
    """
    pause = min(PAUSE_MOST, PAUSES_MOST / max(len(children), 1))
    for child in children:
        doing = "; ".join(filter(None, map(_doing, child.seats)))
        logger.info("Child %d of the worker: %s", child.pid, doing or "nothing runs")
        # This process has shown its own already.
        if child.pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTTIN)
            time.sleep(pause)


def _doing(seat: Seat) -> str:
    seen = seat.board.read()
    since = f"for {time.monotonic() - seen.started:.1f} s"
    if seen.lease is None:
        hooks = f"slot {seat.label} runs hooks of a job that was killed {since}"
        return hooks if seen.started else ""
    what = f"slot {seat.label}, job {seen.lease.id} of queue {seen.lease.queue}"
    return f"{what}: runs {since}" if seen.started else f"{what}: has returned"
