"""A steady producer of jobs, which knows what should become of each."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from flask_taskqueue.errors import BrokerUnavailable

KINDS = {
    "work": ("finished",),
    "later": ("finished",),
    "shaky": ("finished",),
    "broken": ("failed",),
    "expired": ("canceled",),
    "revoked": ("canceled",),
    "revoked-late": ("canceled", "finished"),
    "hold": ("finished",),
    "poison": ("failed",),
}
"""What is enqueued, and how it may end."""


@dataclass(frozen=True, slots=True)
class Call:
    """One job to be enqueued.

    :param seconds: It takes.
    """

    kind: str
    number: int
    queue: str = "default"
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """Of its job."""
        return f"{self.kind}-{self.number}"

    @property
    def ends(self) -> tuple[str, ...]:
        """The statuses it may have in the end."""
        return KINDS[self.kind]

    @property
    def value(self) -> int | None:
        """What it returns if it finishes; ``None`` is a pid."""
        return None if self.kind == "hold" else self.number**2

    def make(self, tasks: t.Any, **options: t.Any) -> None:
        """Enqueue it, in an app context.

        :param tasks: The module ``tests/apps/chaotic.py``.
        """
        options |= {"task_id": self.id, "queue": self.queue}
        if self.kind == "hold":
            tasks.hold.apply_async((self.queue,), **options)
        elif self.kind in ("shaky", "broken", "poison"):
            getattr(tasks, self.kind).apply_async((self.number,), **options)
        else:
            self._make_work(tasks, options)

    def _make_work(self, tasks: t.Any, options: dict[str, t.Any]) -> None:
        args = (self.number, self.seconds)
        if self.kind == "expired":
            options["expires"] = 0.0
        elif self.kind == "revoked":
            options["countdown"] = tasks.LATE
        elif self.kind != "work":
            options["countdown"] = tasks.SOON
        result = tasks.work.apply_async(args, **options)
        if self.kind.startswith("revoked"):
            result.revoke()


class Producer:
    """Enqueues calls in a thread of its own.

    :param rate: How many a second.
    :param batch: How many at a time.
    """

    def __init__(
        self,
        app: t.Any,
        tasks: t.Any,
        calls: Iterator[Call],
        rate: float,
        batch: int,
    ) -> None:
        self._app = app
        self._tasks = tasks
        self._calls = calls
        self._gap = batch / rate
        self._batch = batch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: list[Call] = []
        self.refused: list[Call] = []
        """What was refused for want of Redis may be there all the same."""
        self.seconds = 0.0
        self.slowest = 0.0
        """Seconds that the longest call took."""

    def _run(self) -> None:
        began = time.monotonic()
        with self._app.app_context():
            for number, call in enumerate(self._calls):
                due = began + number // self._batch * self._gap
                pause = due - time.monotonic()
                if self._ended.wait(max(0.0, pause)):
                    break
                self._make(call)
            self.seconds = time.monotonic() - began

    def _make(self, call: Call) -> None:
        began = time.monotonic()
        try:
            call.make(self._tasks)
        except BrokerUnavailable:
            self.refused.append(call)
        else:
            self.accepted.append(call)
        self.slowest = max(self.slowest, time.monotonic() - began)

    def stop(self) -> None:
        """Enqueue nothing more."""
        self._ended.set()
        self._thread.join()

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
