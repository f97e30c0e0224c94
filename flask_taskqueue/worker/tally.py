"""What slots have done since the worker's record was renewed last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .board import Seen
from .handover import Totals
from .pools import Seat

NONE_YET: Totals = (0, 0, 0.0)


class Tally:
    """Counts the jobs of slots, also of those that have ended meanwhile.

    :ivar told: Of each slot what is in the record.
    """

    def __init__(self) -> None:
        self.told: Mapping[str, Totals] = {}
        self._seats: dict[str, Seat] = {}

    def has_news(self, seats: Sequence[Seat]) -> bool:
        """Something runs, or has run since the last renewal."""
        self._take_in(seats)
        return any(
            seen.leases or _totals(seen) != self.told.get(label, NONE_YET)
            for label, seat in self._seats.items()
            for seen in [seat.board.read()]
        )

    def totals(self, seats: Sequence[Seat]) -> dict[str, Totals]:
        """What each slot has done since it began: jobs succeeded, jobs failed, seconds
        worked."""
        self._take_in(seats)
        return {label: _totals(s.board.read()) for label, s in self._seats.items()}

    def since(self, totals: Mapping[str, Totals]) -> Totals:
        """How much of that is not in the record."""
        rows = [(now, self.told.get(label, NONE_YET)) for label, now in totals.items()]
        return (
            sum(now[0] - before[0] for now, before in rows),
            sum(now[1] - before[1] for now, before in rows),
            sum(now[2] - before[2] for now, before in rows),
        )

    def tell(self, totals: Mapping[str, Totals], seats: Sequence[Seat]) -> None:
        """Take note that the record has these totals.

        :param seats: Those that live: others count no more.
        """
        self._seats = {seat.label: seat for seat in seats}
        self.told = {label: totals[label] for label in self._seats}

    def _take_in(self, seats: Sequence[Seat]) -> None:
        self._seats |= {seat.label: seat for seat in seats}


def _totals(seen: Seen) -> Totals:
    return seen.succeeded, seen.failed, seen.worked
