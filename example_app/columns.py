"""Statistics of a column of text fields, one value at a time."""

from __future__ import annotations

import math
import typing as t

DISTINCT_MAX = 10_000
"""Distinct texts are counted up to this many."""


class ColumnStatistics:
    """Counts and sums up the values of one column.

    A column is numeric while each value but the empty ones is a finite number.
    Mean and standard deviation (of a sample) are kept by Welford's method, which
    needs no second look at the values.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.missing = 0
        self.texts: set[str] = set()
        self.longest = 0
        self.numeric = True
        self.minimum = math.inf
        self.maximum = -math.inf
        self.mean = 0.0
        self.squares = 0.0

    def add(self, text: str) -> None:
        """Takes the next value in; an empty one is missing."""
        if not text:
            self.missing += 1
            return
        self.count += 1
        self.longest = max(self.longest, len(text))
        if len(self.texts) < DISTINCT_MAX:
            self.texts.add(text)
        if self.numeric:
            self._add_number(text)

    def _add_number(self, text: str) -> None:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.numeric = False
            return
        self.minimum = min(self.minimum, number)
        self.maximum = max(self.maximum, number)
        delta = number - self.mean
        self.mean += delta / self.count
        self.squares += delta * (number - self.mean)

    def summary(self) -> dict[str, t.Any]:
        """What is known: the numbers of a numeric column, the texts of another."""
        known = {"name": self.name, "count": self.count, "missing": self.missing}
        if not self.numeric or not self.count:
            return known | {"distinct": len(self.texts), "longest": self.longest}
        return known | {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self.mean,
            "deviation": math.sqrt(self.squares / max(self.count - 1, 1)),
        }
