"""A worker starts itself anew in place: the same process, with its children."""

from __future__ import annotations

import json
import os
import signal
import sys
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata

from ..unpatched import original
from .forked import die_with
from .memory import unnamed_file
from .signalled import BLOCKED

HEIR = "_TASKQUEUE_HEIR"
"""Environment variable: the descriptor of a file with a :class:`Heritage`, or what a
trial is to compare its version with."""

TRIAL = "trial "

OTHER_VERSION = 79
"""Exit code of a trial: it went well, and has another Flask-TaskQueue."""

Totals = tuple[int, int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What a worker leaves to the program that takes its place.

    :param birth: When the worker began, in seconds since the epoch.
    :param made: How many slots it made so far.
    :param flushed: By label of a slot, what of its counters is in the record.
    :param children: Of each child its pid, and of each of its slots the label and the
        descriptors of its channel and its board.
    :param watched: Files and their times, as the program that ends saw them.
    """

    name: str
    birth: float
    made: int
    flushed: Mapping[str, Totals] = field(default_factory=dict)
    children: Sequence[tuple[int, Sequence[tuple[str, int, int]]]] = ()
    watched: Mapping[str, int] = field(default_factory=dict)

    def descriptors(self) -> list[int]:
        """All descriptors in it."""
        seats = [seat for _, seats in self.children for seat in seats]
        return [descriptor for _, *pair in seats for descriptor in pair]


class Start:
    """How this process was started, and how it is started again.

    Its environment is handed on as it is; what the ``flask`` command read from a
    ``.env`` file stays.
    """

    def __init__(self) -> None:
        self._command = [sys.executable, *sys.orig_argv[1:]]
        self._folder = _folder()

    def trial(self, output: int) -> int:
        """Begin to load the app in another process, which ends when it has.

        :param output: Descriptor of a file that gets what it says.
        :return: Its pid.
        :raises OSError: The system refused.
        """
        parent, environ = os.getpid(), os.environ | {HEIR: _trial()}
        pid: int = original("os", "fork")()
        if pid == 0:
            try:
                die_with(parent)
                for descriptor in (1, 2):
                    os.dup2(output, descriptor)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.chdir(self._folder)
                os.execve(self._command[0], self._command, environ)  # noqa: S606
            except OSError as error:
                os.write(2, f"{error}\n".encode())
            finally:
                os._exit(127)
        return pid

    def again(self, heritage: Heritage) -> t.NoReturn:
        """Replace this process's program. In the main thread.

        Signals are blocked from before until :func:`unblock`: by default most would
        end the process, or stop it.

        :raises OSError: The system refused.
        """
        # In a file, as a variable cannot be of any length.
        file = unnamed_file()
        os.write(file, json.dumps(asdict(heritage)).encode())
        os.lseek(file, 0, os.SEEK_SET)
        for descriptor in (file, *heritage.descriptors()):
            os.set_inheritable(descriptor, True)
        os.environ[HEIR] = str(file)
        os.chdir(self._folder)
        os.execv(self._command[0], self._command)  # noqa: S606 - itself


def block() -> None:
    """Let signals wait. In the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def unblock() -> None:
    """Let signals come, which may have been blocked by the program before."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)


def received() -> Heritage | None:
    """What the program before left, once; ``None`` where this is the first."""
    heir = os.environ.get(HEIR, "")
    if not heir.isdecimal():
        return None
    del os.environ[HEIR]
    with open(int(heir), encoding="utf-8") as file:
        left = json.load(file)
    # Another version may leave more, or less.
    known = {row.name for row in fields(Heritage)} & left.keys()
    heritage = Heritage(**{name: left[name] for name in known})
    for descriptor in heritage.descriptors():
        os.set_inheritable(descriptor, False)
    return heritage


def trial_code() -> int | None:
    """The exit code of a trial that has gone well; ``None`` where this is none."""
    heir = os.environ.get(HEIR, "")
    if not heir.startswith(TRIAL):
        return None
    return 0 if heir == _trial() else OTHER_VERSION


def _trial() -> str:
    return TRIAL + metadata.version("Flask-TaskQueue")


def _folder() -> str:
    """The working directory as it was called: a link to a release may lead to another
    one by now."""
    named = os.environ.get("PWD", "")
    try:
        if named and os.path.samefile(named, "."):
            return named
        return os.getcwd()
    except OSError:  # the folder is gone
        return "."
