"""The system's own calls, also where gevent has put its own in their place.

A worker's supervisor waits for processes and signals, not for greenlets; and gevent's
``waitpid`` and handler of ``SIGCHLD`` know only of children that gevent made.
"""

from __future__ import annotations

import importlib
import sys
import typing as t


def original(module: str, name: str) -> t.Any:
    """What a module of the standard library has by itself under a name."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(importlib.import_module(module), name)
    return monkey.get_original(module, name)


def fork() -> int:
    """``os.fork``; in the child gevent, if it is in use, is made to work again."""
    pid: int = original("os", "fork")()
    if pid == 0 and "gevent" in sys.modules:
        from gevent import reinit

        reinit()
    return pid


def waitpid(pid: int, options: int) -> tuple[int, int]:
    """``os.waitpid``."""
    found: tuple[int, int] = original("os", "waitpid")(pid, options)
    return found
