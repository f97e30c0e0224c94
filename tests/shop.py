"""An app whose tasks say what they did, for the tests of the testing kit."""

from __future__ import annotations

import typing as t

from .running import InProcess

NOWHERE = "redis://127.0.0.1:1/0"
"""A URL where no server is."""


class Shop:
    """An app with tasks that note what they did in :attr:`done`."""

    def __init__(self, site: InProcess) -> None:
        self.app, self.tq = site.app, site.tq
        self.done: list[t.Any] = []
        tq, done = self.tq, self.done

        @tq.task(name="note")
        def note(*what: t.Any) -> t.Any:
            done.append(what[0])
            return what[0]

        @tq.task(name="fail")
        def fail(text: str = "no") -> None:
            raise ValueError(text)

        @tq.task(name="retried", bind=True, max_retries=2, default_retry_delay=60)
        def retried(self: t.Any) -> int:
            done.append(self.request.retries)
            if self.request.retries < 2:
                self.retry()
            return t.cast(int, self.request.retries)

        self.note, self.fail, self.retried = note, fail, retried

        @self.app.post("/note/<what>")
        def start(what: str) -> t.Any:
            return self.tq.accepted(note.delay(what))
