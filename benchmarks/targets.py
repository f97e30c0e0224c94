"""What is asked of the package, and whether a run holds it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .contenders import CELERY, HUEY, ONE, OURS, RQ, RQ_WORKER
from .measures import backlog, endpoint
from .measuring import Row


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on the median of the rounds, or on that of the ratios to a peer.

    :param row: Name of the row.
    :param who: Whose rounds.
    :param peer: Divide each by this one's, which ran next to it: what else the
        machine did slowed both. ``None`` takes them as they are.
    :param every: It bounds the worst round, not the median.
    """

    row: str
    who: str = OURS
    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    every: bool = False

    def judge(self, row: Row) -> Verdict:
        """Hold it against what was measured."""
        bound = self.at_least if self.at_most is None else self.at_most
        sign = ">=" if self.at_most is None else "<="
        unit = f"x {self.peer}" if self.peer else row.unit
        asked = f"{self.who} {sign} {bound:,g} {unit}"
        if self.who not in row.values or (self.peer and self.peer not in row.values):
            return Verdict(self.row, asked, None, "not measured")
        got = self._got(row)
        held = (self.at_least is None or got >= self.at_least) and (
            self.at_most is None or got <= self.at_most
        )
        return Verdict(self.row, asked, got, "ok" if held else "short")

    def _got(self, row: Row) -> float:
        if self.peer:
            pairs = zip(row.values[self.who], row.values[self.peer], strict=True)
            return statistics.median(mine / peer for mine, peer in pairs)
        return row.worst(self.who) if self.every else row.median(self.who)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target.

    :param word: ``ok``, ``short`` or ``not measured``.
    """

    row: str
    asked: str
    got: float | None
    word: str


TARGETS = (
    Target(row="enqueue", peer=HUEY, at_least=0.9),
    Target(row="enqueue", peer=RQ, at_least=3),
    Target(row="enqueue-many", peer=RQ, at_least=3),
    Target(row="worker", who=ONE, peer=HUEY, at_least=2),
    Target(row="worker", who=ONE, peer=CELERY, at_least=5),
    Target(row="worker", who=ONE, peer=RQ_WORKER, at_least=60),
    Target(row="worker", peer=HUEY, at_least=6),
    Target(row="worker", peer=CELERY, at_least=15),
    Target(row="worker", peer=RQ_WORKER, at_least=150),
    Target(row="worker", at_least=16_700),
    Target(row="worker-one-cpu", peer=HUEY, at_least=4),
    Target(row="worker-info", peer=HUEY, at_least=4),
    Target(row="round-trip-p50", peer=CELERY, at_most=0.4),
    Target(row="round-trip-p99", at_most=2),
    Target(row="waking-p99", at_most=5),
    Target(row="due-p99", at_most=50),
    Target(row="backlog-enqueue", who=backlog.BEHIND, peer=OURS, at_least=0.9),
    Target(row="backlog-worker", who=backlog.BEHIND, peer=OURS, at_least=0.9),
    Target(row="process-memory", peer=CELERY, at_most=1),
    Target(row="redis-memory", at_most=1.6),
    Target(row="idle", at_most=1),
    Target(row="import", at_most=60),
    Target(row="endpoint", peer=endpoint.VIEW, at_least=0.6),
    Target(row="endpoint", who=endpoint.WAITS, peer=endpoint.VIEW, at_least=0.6),
    Target(row="given-back", at_most=50, every=True),
    Target(row="child-death", at_most=100, every=True),
    Target(row="group-death", at_most=12.5, every=True),
)


def verdicts(rows: Iterable[Row]) -> list[Verdict]:
    """Of all targets whose row was measured."""
    found = {row.name: row for row in rows}
    return [each.judge(found[each.row]) for each in TARGETS if each.row in found]
