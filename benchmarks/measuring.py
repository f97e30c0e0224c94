"""Numbers of several rounds, and the rows they make."""

from __future__ import annotations

import statistics
import time
import typing as t
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Row:
    """One thing that was measured, for everybody it was measured for.

    :param name: Unique, for ``targets`` and for tools that read the JSON.
    :param unit: Of the values.
    :param conditions: Placement, log level, persistence, and what else matters.
    :param values: Name of a contender -> a value for each round.
    :param notes: Who was left out and why.
    :param more: Whether more is better.
    """

    name: str
    title: str
    unit: str
    conditions: str
    more: bool = True
    values: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def median(self, who: str) -> float:
        """Of the rounds."""
        return statistics.median(self.values[who])

    def worst(self, who: str) -> float:
        """Of the rounds."""
        return (min if self.more else max)(self.values[who])

    def best(self, who: str) -> float:
        """Of the rounds."""
        return (max if self.more else min)(self.values[who])


def timed(call: Callable[[int], t.Any], first: int, count: int) -> float:
    """Calls a second, each with its number."""
    began = time.perf_counter()
    for number in range(first, first + count):
        call(number)
    return count / (time.perf_counter() - began)


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
