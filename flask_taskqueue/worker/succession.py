"""Who of a worker's children leaves, who comes instead, and when. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .pools import Child, Seat


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done now.

    :param begin: Held slots that may claim from now on.
    :param leave: Children that are to claim nothing more.
    """

    begin: Sequence[Seat]
    leave: Sequence[Child]


class Succession:
    """Children that are being replaced, and those that replace them.

    A child leaves when another is connected in its place. The slots of that one are
    held: each may claim when a slot before it runs nothing more, so that there are
    never more jobs at once than slots were asked for.

    :param size: How many slots work at once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._leaving: dict[Child, bool] = {}
        """And whether it was told."""
        self._held: list[Seat] = []

    @property
    def holds(self) -> bool:
        """Slots of a new child are to be held."""
        return bool(self._leaving)

    def is_leaving(self, child: Child) -> bool:
        """It is being replaced."""
        return child in self._leaving

    def was_told(self, child: Child) -> bool:
        """It is to claim nothing more."""
        return self._leaving.get(child, False)

    def replace(self, child: Child) -> None:
        """Take note that a child is to be replaced."""
        self._leaving.setdefault(child, False)

    def take_over(self, child: Child) -> None:
        """Take note of a child that was told by who led the worker before."""
        self._leaving[child] = True

    def hold(self, child: Child) -> None:
        """Take note that a new child's slots are held."""
        self._held += child.seats

    def forget(self, child: Child) -> None:
        """Take note that a child is gone."""
        self._leaving.pop(child, None)
        self._held = [seat for seat in self._held if seat not in child.seats]

    def step(
        self, children: Sequence[Child], ready: Collection[str], *, hopeless: bool
    ) -> Step:
        """What follows, and is taken for done from here on.

        :param children: All that live.
        :param ready: Labels of the slots that are connected.
        :param hopeless: No replacement will come.
        """
        if not self._leaving and not self._held:
            return Step((), ())
        working = {child: self._working(child) for child in children}
        heirs = [
            seat
            for child in children
            if child not in self._leaving
            for seat in child.seats
            if seat in self._held and seat.label in ready
        ]
        free = max(self._size - sum(working.values()), 0)
        begin, spare = heirs[:free], len(heirs[free:])
        # Those that were told have a replacement each already.
        spare -= sum(working[child] for child, told in self._leaving.items() if told)
        leave = []
        for child in [child for child, told in self._leaving.items() if not told]:
            spare -= working[child]
            if spare >= 0 or hopeless:
                leave.append(child)
        self._held = [seat for seat in self._held if seat not in begin]
        self._leaving |= dict.fromkeys(leave, True)
        return Step(begin, leave)

    def _working(self, child: Child) -> int:
        """How many of its slots may run a job."""
        return sum(not seat.gone and seat not in self._held for seat in child.seats)
