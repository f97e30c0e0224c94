"""How many jobs a slot claims at once. Pure."""

from __future__ import annotations

AHEAD = 0.004
"""Seconds of work that a slot may claim beyond the job it begins with."""

MOST = 16
"""Jobs claimed by one call."""

BRISK = 0.0005
"""Seconds that jobs take at most while which the next are asked for."""


class Pace:
    """What a slot's jobs have taken, and so how many the next call may claim.

    :param most: Never more than this.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._mean: float | None = None

    def note(self, seconds: float) -> None:
        """A job took this long. One that is slower than the mean counts for half of
        the next mean, one that is faster for an eighth: to claim too much makes jobs
        wait, to claim too little costs some microseconds."""
        if self._mean is None:
            self._mean = seconds
        else:
            weight = 0.5 if seconds > self._mean else 0.125
            self._mean += (seconds - self._mean) * weight

    @property
    def is_brisk(self) -> bool:
        """They take so little that the next are asked for while these run."""
        return self._most > 1 and self._mean is not None and self._mean <= BRISK

    @property
    def jobs(self) -> int:
        """Jobs for the next call: before the first is known, one.

        Where the next are asked for while these run, those count, too.
        """
        if self._mean is None:
            return 1
        if not self._mean:
            return self._most
        ahead = AHEAD / self._mean
        most = int((ahead + 1) / 2) if self.is_brisk else int(ahead) + 1
        return max(1, min(most, self._most))
