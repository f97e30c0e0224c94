"""What ran and when, in memory that this process and every worker map."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

ENVIRONMENT = "BENCH_LEDGER"
"""Environment variable with the path of its file."""

JOBS = 2_000_000
"""Numbers of jobs that are told apart."""

NOTES = 65_536
"""Numbers that can be kept beside."""

_NUMBER = struct.Struct("d")


class Ledger:
    """Counts the runs of each job, and keeps numbers; costs a run no system call.

    :param path: Of the file that is mapped. Made by :meth:`make`.
    """

    def __init__(self, path: str | Path) -> None:
        with Path(path).open("r+b") as file:
            self.runs: mmap.mmap = mmap.mmap(file.fileno(), 0)
            """One byte for each job: ``runs[number] += 1`` in its run."""

    @classmethod
    def make(cls, path: Path) -> Ledger:
        """One on a new file, which the processes started from now on find."""
        with path.open("wb") as file:
            file.truncate(JOBS + NOTES * _NUMBER.size)
        os.environ[ENVIRONMENT] = str(path)
        return cls(path)

    def reset(self) -> None:
        """Forget everything."""
        self.runs[:] = bytes(len(self.runs))

    def ran(self, first: int, count: int) -> int:
        """How many of these jobs have run, once or more."""
        return count - self.runs[first : first + count].count(0)

    def ran_once(self, first: int, count: int) -> bool:
        """Whether each of these jobs has run exactly once."""
        return self.runs[first : first + count].count(1) == count

    def note(self, place: int, value: float) -> None:
        """Keep a number."""
        _NUMBER.pack_into(self.runs, JOBS + place * _NUMBER.size, value)

    def noted(self, place: int) -> float:
        """A number that was kept, or 0."""
        value: float = _NUMBER.unpack_from(self.runs, JOBS + place * _NUMBER.size)[0]
        return value
