"""What acceptance tests share: calls from this process, and ledgers of runs."""

from __future__ import annotations

import types
import typing as t
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..processes import AppFolder


@contextmanager
def calling(folder: AppFolder) -> t.Iterator[types.ModuleType]:
    """The folder's module, its tasks ready to be called in an app context."""
    module = folder.module()
    app = module.create_app(TASKQUEUE_URL=folder.env["FLASK_TASKQUEUE_URL"])
    with app.app_context():
        yield module


@dataclass(frozen=True)
class Ledger:
    """What the task ``ledger`` of ``tests/apps/jobs.py`` noted."""

    path: Path
    lines: list[tuple[str, int, int, float]] = field(default_factory=list)
    """``start`` or ``end``, number of the job, pid, epoch seconds."""

    def read(self) -> Ledger:
        """The same ledger as it is by now."""
        text = self.path.read_text() if self.path.exists() else ""
        rows = [line.split() for line in text.splitlines()]
        lines = [(kind, int(n), int(pid), float(at)) for kind, n, pid, at in rows]
        return Ledger(self.path, lines)

    def starts(self) -> Counter[int]:
        """How often each job was started."""
        return Counter(number for kind, number, _, _ in self.lines if kind == "start")

    def last_of(self, pids: t.Collection[int]) -> set[int]:
        """The job each of these processes began last."""
        last = {
            pid: number
            for kind, number, pid, _ in self.lines
            if kind == "start" and pid in pids
        }
        return set(last.values())

    def begun_after(self, moment: float) -> dict[int, float]:
        """When jobs began for the last time, of those that did after a moment."""
        return {
            number: at
            for kind, number, _, at in self.lines
            if kind == "start" and at > moment
        }
