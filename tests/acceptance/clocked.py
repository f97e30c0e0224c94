"""A beat whose server's clock a test moves."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask

from flask_taskqueue import TaskQueue
from flask_taskqueue.beat import listing
from flask_taskqueue.beat.entries import entry_id
from flask_taskqueue.beat.epoch import from_epoch

from ..processes import AppFolder, Worker
from ..servers import Server, eventually

APP = "jobs"

ADD: dict[str, t.Any] = {"task": "jobs.add", "args": [1, 2]}
"""What an entry is beside its schedule."""


class Clocked:
    """A folder with ``tests/apps/jobs.py`` on a server with a clock, and its entries.

    :param entries: Those its code declares, as ``TASKQUEUE_BEAT_SCHEDULE``.
    """

    def __init__(
        self, server: Server, folder: Path, entries: Mapping[str, Mapping[str, t.Any]]
    ) -> None:
        self.server = server
        self.folder = AppFolder(folder, server.url, APP)
        self.folder.env["FLASK_TASKQUEUE_BEAT_SCHEDULE"] = json.dumps(entries)
        self.app = Flask(APP)
        self.tq = TaskQueue(self.app, url=server.url)
        self.state = self.tq.state_of(self.app)
        self.client: t.Any = server.client()

    def beat(self) -> Worker:
        """Start a beat, and wait until it has looked."""
        beat = self.folder.beat()
        self.await_look()
        return beat

    def set(self, at: datetime) -> None:
        """Set the server's clock, and wait until a beat has looked by it."""
        self.set_unseen(at)
        self.await_look()

    def set_unseen(self, at: datetime) -> None:
        """Set the server's clock, and wait for no beat."""
        self.server.set_clock((at - datetime.now(UTC)).total_seconds())

    def await_look(self) -> None:
        """Wait until a beat has looked, and all that is due by now is dealt with."""
        # A look writes it anew; one that began before this is not enough.
        self.client.delete(f"tq:lead:{APP}")
        self.client.publish("tq:entries", APP)
        eventually(lambda: self.client.exists(f"tq:lead:{APP}"), 10, "a look")
        eventually(lambda: not self._due(), 10, "nothing is due")

    def now(self) -> datetime:
        """The server's time."""
        whole, micro = self.client.time()
        return datetime.fromtimestamp(whole, UTC) + timedelta(microseconds=micro)

    def next(self, name: str) -> datetime | None:
        """When an entry is due next."""
        id = entry_id(APP, name)
        score = self.client.zscore("rq:scheduler:scheduled_jobs", id)
        return None if score is None else from_epoch(score)

    def dues(self, name: str) -> list[datetime]:
        """Due times that were fired, in the order they were; the last 100."""
        fired = listing.firings(self.state, name, 100)[::-1]
        assert {row.what for row in fired} <= {"fired"}
        return [row.due for row in fired]

    def await_more(self, name: str, count: int, timeout: float) -> list[datetime]:
        """Wait until an entry has fired so often from now on; all its due times."""
        wanted = len(self.dues(name)) + count
        eventually(lambda: len(self.dues(name)) >= wanted, timeout, f"{name} fires")
        return self.dues(name)

    def _due(self) -> int:
        now = f"{self.now().timestamp():.6f}"
        found: int = self.client.zcount(f"tq:due:{APP}", "-inf", now)
        return found

    def close(self) -> None:
        self.folder.close()
        self.state.broker.close()
        self.client.close()


@contextmanager
def clocked(
    server: Server,
    folder: Path,
    begin: datetime,
    entries: Mapping[str, Mapping[str, t.Any]],
) -> Iterator[Clocked]:
    """A :class:`Clocked` whose server's time is ``begin``; no beat runs yet.

    :param entries: Each one's schedule and other parts, without a task.
    """
    declared = {name: {**ADD, **parts} for name, parts in entries.items()}
    made = Clocked(server, folder, declared)
    try:
        made.set_unseen(begin)
        yield made
    finally:
        made.close()
