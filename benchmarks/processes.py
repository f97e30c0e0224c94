"""Worker processes: started, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import typing as t
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""Where workers find this package."""

PATIENCE = 120.0
"""Seconds anything may take that is waited for."""

T = t.TypeVar("T")


def inherited() -> dict[str, str]:
    """Environment in which this package is found, wherever a process is started."""
    path = os.pathsep.join(filter(None, (os.getenv("PYTHONPATH"), str(ROOT))))
    return {**os.environ, "PYTHONPATH": path}


class Refused(Exception):
    """A worker that does not offer what it was asked for; its own words."""


class Worker:
    """A worker in a process group of its own; ``with`` runs it, and kills it.

    :param log: Where its output goes.
    :param environment: More variables.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self._command = command
        self.log = log
        self._environment = {**inherited(), **environment}

    def __enter__(self) -> Worker:
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.log.parent,
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        # What was asked of it is done: peers take seconds for an end in good order.
        self.kill()

    @property
    def pid(self) -> int:
        """Of its main process, and its group."""
        return self._process.pid

    def stop(self) -> None:
        """End it in good order: what it runs is finished."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """SIGKILL to what is left of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def until(self, condition: Callable[[], T], pause: float = 0.005) -> T:
        """Call a condition until it is true, while the worker lives.

        :param pause: Seconds between calls.
        :raises Refused: The worker ended with wrong usage.
        """
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            code = self._process.poll()
            if code == 2:
                raise Refused(self._words(1))
            assert code is None, f"the worker ended with {code}:\n{self._words(20)}"
            assert time.monotonic() < deadline, f"still waiting:\n{self._words(20)}"
            time.sleep(pause)
        return value

    def _words(self, lines: int) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


def family(pid: int) -> list[int]:
    """Pids of a process and of all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size: a page that n processes share counts 1/n for each."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)
