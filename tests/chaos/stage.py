"""An app, its ledger and a server of its own: what each chaos test of workers has."""

from __future__ import annotations

import os
import typing as t
from contextlib import ExitStack
from pathlib import Path

from ..processes import AppFolder, Worker
from ..servers import Server
from .audit import Audit
from .ledger import History, Ledger
from .producer import Call, Producer

LONG = bool(os.environ.get("CHAOS_LONG"))
"""The long lanes were asked for; see ``conftest.py``."""


class Stage:
    """``tests/apps/chaotic.py``, to be entered as a context.

    :param queues: All that are used.
    :param server: One that runs. By default it starts one that keeps its data.
    :param config: Of the app here and in workers: names without ``TASKQUEUE_``.
    """

    def __init__(
        self,
        path: Path,
        queues: t.Sequence[str] = ("default",),
        server: Server | None = None,
        **config: object,
    ) -> None:
        self.path = path
        self.queues = queues
        self._is_guest = server is not None
        self.server = server or Server(
            path / "server", config=["enable-debug-command yes"]
        )
        self._config = {f"TASKQUEUE_{name}": value for name, value in config.items()}
        env = {f"FLASK_{name}": str(value) for name, value in self._config.items()}
        self.folder = AppFolder(path, self.server.url, "chaotic", **env)
        self.ledger = Ledger(path / "ledger")
        self.tasks: t.Any = None
        self.app: t.Any = None
        self.client: t.Any = None
        self._exits = ExitStack()

    def __enter__(self) -> Stage:
        with ExitStack() as exits:
            if not self._is_guest:
                exits.enter_context(self.server)
            self.client = exits.enter_context(self.server.client())
            exits.callback(self.folder.close)
            self.tasks = self.folder.module()
            self._config["TASKQUEUE_URL"] = self.server.url
            self.app = self.tasks.create_app(**self._config)
            exits.callback(self._disconnect)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exits.close()

    def _disconnect(self) -> None:
        with self.app.app_context():
            self.tasks.tq.state.broker.close()

    @property
    def audit(self) -> Audit:
        """Of its server."""
        return Audit(self.client, self.queues)

    def worker(self, *args: str, queues: str = "", **how: t.Any) -> Worker:
        """Start a worker; it serves all queues unless told otherwise."""
        served = queues or ",".join(self.queues)
        return self.folder.worker("-Q", served, *args, **how)

    def producer(
        self, calls: t.Iterable[Call], rate: float, batch: int = 1
    ) -> Producer:
        """One that enqueues these, so many a second, so many at a time."""
        return Producer(self.app, self.tasks, iter(calls), rate, batch)

    def make(self, calls: t.Iterable[Call]) -> None:
        """Enqueue these now."""
        with self.app.app_context():
            for call in calls:
                call.make(self.tasks)

    def held(self, queue: str) -> Path:
        """While this file is there, the jobs of kind ``hold`` in a queue run."""
        return self.path / f"held-{queue}"

    def assert_each_once(self, calls: t.Sequence[Call]) -> None:
        """Each ended as it should, of one run an attempt, with no recovery counted."""
        ids = {call.id for call in calls}
        history = History(run for run in self.ledger.runs() if run.job in ids)
        assert history.problems() == []
        assert self.audit.problems(calls) == []
        stored = self.audit.stored(calls)
        for call in calls:
            assert stored[call.id].recoveries == 0, call
            assert stored[call.id].retries == (call.kind == "shaky"), call
