"""A forked child of the supervisor: how it begins, and that it ends by itself."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import logging
import os
import random
import signal
import sys
import typing as t
from collections.abc import Callable

from .. import context, unpatched
from ..appstate import AppState
from .signalled import OBEYED
from .stacks import show_at_ttin

logger: logging.Logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def fork(
    state: AppState,
    name: str,
    disown: Callable[[], None],
    work: Callable[[int], None],
    *,
    stops_at_term: bool = False,
) -> int:
    """Fork a child that does some work and ends. In the parent.

    :param name: What the log calls it.
    :param disown: Called first in the child: closes what is the parent's.
    :param work: Called with the parent's pid, in an empty context.
    :param stops_at_term: TERM ends the child, until the work handles it in a better
        way. Otherwise only the parent says when it is to stop.
    :return: The child's pid.
    :raises OSError: The system refused.
    """
    # What is still in a buffer would be written by both.
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = unpatched.fork()
    if pid == 0:
        _be_child(parent, state, name, disown, work, stops_at_term)
    return pid


def _be_child(
    parent: int,
    state: AppState,
    name: str,
    disown: Callable[[], None],
    work: Callable[[int], None],
    stops_at_term: bool,
) -> t.NoReturn:
    """Never returns: whatever happens ends in ``os._exit``, so that nothing of the
    supervisor (its ``finally``, its ``atexit``) runs twice."""
    status = 70
    try:
        die_with(parent)
        # What the parent loaded stays: a collection that looks through it would copy
        # its pages, some 30 ms of a child that runs but a few jobs.
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in OBEYED:
            # A terminal sends INT to all: only the supervisor decides. Not
            # SIG_IGN, which the programs a task starts would inherit.
            ends = stops_at_term and number == signal.SIGTERM
            signal.signal(number, _end if ends else _ignore)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        show_at_ttin()
        disown()
        random.seed()
        inherited = contextvars.Context().run(forget_engines, state)
        contextvars.Context().run(work, parent)
        del inherited  # Until here: see forget_engines.
        status = 0
    except Exception:
        logger.exception("%s ended", name)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def described(status: int) -> str:
    """How a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by signal {number} ({signal.Signals(number).name})"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _end(number: int, frame: object) -> None:
    os._exit(0)


def _ignore(number: int, frame: object) -> None: ...


def forget_engines(state: AppState) -> list[object]:
    """Give Flask-SQLAlchemy's engines new pools: their connections are the parent's.

    :return: The old pools, to be kept while this process lives: a driver may say
        goodbye on a connection that is collected, and so end it for the parent.
    """
    database = state.app.extensions.get("sqlalchemy")
    if database is None:
        return []
    with context.alone(state.app):
        engines = list(getattr(database, "engines", {}).values())
    pools: list[object] = [engine.pool for engine in engines]
    for engine in engines:
        engine.dispose(close=False)
    return pools


def die_with(parent: int) -> None:
    """End with the parent, whatever ends it (Linux; elsewhere the end of file on
    the channel ends the child after its job)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(70)
