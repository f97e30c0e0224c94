"""Celery."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from collections.abc import Iterator, Sequence

import celery

from .. import serving, tasks
from .interface import Contender, How

_URL = os.environ[serving.ENVIRONMENT].replace("unix://", "redis+socket://")


def made() -> celery.Celery:
    """An app, with its own connections."""
    app = celery.Celery("bench", broker=_URL, backend=_URL)
    app.conf.update(
        worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True
    )
    return app


app = made()
add = app.task(tasks.add)


class Celery(Contender):
    """``celery worker -P prefork``, 64 jobs prefetched for each process."""

    jobs = 3_000

    def __init__(self) -> None:
        self._add = add

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """An app anew: one for all lanes would hear of the results of those before."""
        self._add = made().task(tasks.add)
        yield

    def call(self, number: int) -> t.Any:
        return self._add.delay(number, 1)

    def command(self, how: How) -> list[str]:
        command = [sys.executable, "-m", "celery", "-A", f"{__name__}:app", "worker"]
        options = ["-l", how.log, "-c", str(how.slots), "-Q", how.names("celery")]
        return [*command, "-P", "prefork", *options]

    def waiting(self, client: t.Any) -> int:
        return int(client.llen("celery"))

    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        keys = [app.backend.get_key_for_task(handle.id) for handle in handles]
        return int(client.exists(*keys))

    def value(self, handle: t.Any) -> t.Any:
        return handle.result

    def wait(self, handle: t.Any) -> t.Any:
        return handle.get(timeout=10)
