"""Statistics of one column of a CSV file."""

import math
import typing as t
from array import array
from statistics import fmean

BINS = 24


class Column:
    """Takes the fields of a column one by one and tells finite numbers from texts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing = self.texts = 0
        self.numbers = array("d")

    def add(self, text: str) -> None:
        """Take the next field; an empty one is missing."""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            self.numbers.append(number)
        else:
            self.texts += bool(text)
            self.missing += not text

    def summary(self) -> dict[str, t.Any]:
        """JSON values: counts, and what the numbers have in common if there are any."""
        known = {"name": self.name, "texts": self.texts, "missing": self.missing}
        if not self.numbers:
            return known | {"numbers": 0}
        low, high, bars = min(self.numbers), max(self.numbers), [0] * BINS
        step = (high - low) / BINS or 1
        for number in self.numbers:
            bars[min(int((number - low) / step), BINS - 1)] += 1
        found = {"numbers": len(self.numbers), "minimum": low, "maximum": high}
        return known | found | {"mean": fmean(self.numbers), "histogram": bars}
