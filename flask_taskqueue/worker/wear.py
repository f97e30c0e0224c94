"""When a child is worn out: it ran so many jobs, or takes so much memory."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from dataclasses import dataclass

logger: logging.Logger = logging.getLogger(__name__)

MIB = 1024 * 1024

JOBS, MEMORY = b"J", b"M"
"""What a slot of a worn child sends: it ran its jobs; it takes too much memory."""

SPARED = 60.0
"""Seconds a child is used that took too much memory from the start on: one in its
place would do so, too."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a child is used.

    :param jobs: Jobs it runs; ``None`` for any number.
    :param mebibytes: Resident memory it may take when a job has ended; ``None`` for
        any.
    """

    jobs: int | None = None
    mebibytes: float | None = None

    def begin(self) -> Wear | None:
        """What counts for a new child; ``None`` where nothing needs to."""
        return None if self == Lifetime() else Wear(self)

    def reason(self, heard: bytes) -> str:
        """Why a child that says this is to be replaced; ``""`` where it is not."""
        if JOBS in heard:
            return f"it ran {self.jobs} job{'' if self.jobs == 1 else 's'}"
        if MEMORY in heard:
            return f"it takes more than {self.mebibytes:g} MiB"
        return ""


class Wear:
    """What one child has been through; its slots share it.

    :ivar worn: What it says once it is to claim nothing more, else ``b""``.
    """

    def __init__(self, lifetime: Lifetime) -> None:
        self.worn: bytes = b""
        self._lifetime = lifetime
        # Counts without a lock: slots may be threads.
        self._ran = itertools.count(1)
        self._begun = False
        self._spared_until = 0.0

    @property
    def counts(self) -> bool:
        """A job claimed too many would have to be given back."""
        return self._lifetime.jobs is not None

    def begin(self) -> None:
        """Look at the child before its first job; each of its slots may ask."""
        most = self._lifetime.mebibytes
        if most is None or self._begun:
            return
        self._begun = True
        if (size := resident() / MIB) > most:
            self._spared_until = time.monotonic() + SPARED
            logger.warning(
                "A child of the worker takes %.0f MiB before its first job, and may"
                " take %g: it is replaced after %g s at the soonest",
                size, most, SPARED,
            )  # fmt: skip

    def count(self) -> None:
        """Count a job that has ended, and look at the memory."""
        jobs, most = self._lifetime.jobs, self._lifetime.mebibytes
        if jobs is not None and next(self._ran) >= jobs:
            self.worn = JOBS
        elif most is not None and time.monotonic() >= self._spared_until:
            if resident() > most * MIB:
                self.worn = MEMORY


def resident() -> int:
    """Bytes of memory that this process takes.

    On Linux what it takes now (``/proc/self/statm``), shared pages included;
    elsewhere the most it ever took (``getrusage``).

    :raises OSError: The system does not tell.
    """
    if sys.platform == "linux":
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError as error:
        raise OSError("this system does not tell a process's memory") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
