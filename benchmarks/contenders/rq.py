"""RQ; as a program its worker: ``python -m benchmarks.contenders.rq CLASS LEVEL``."""

from __future__ import annotations

import os
import sys
import typing as t
from collections.abc import Iterable, Sequence

import redis
import rq

from .. import serving, tasks
from .interface import Contender, How

client = redis.Redis.from_url(os.environ[serving.ENVIRONMENT])
queue = rq.Queue("default", connection=client)


class Rq(Contender):
    """``Worker``, which forks a process for each job."""

    jobs = 200
    worker: t.ClassVar[str] = "Worker"

    def call(self, number: int) -> t.Any:
        return queue.enqueue(tasks.add, number, 1)

    def call_many(self, numbers: Iterable[int]) -> list[t.Any]:
        prepare = rq.Queue.prepare_data
        return queue.enqueue_many([prepare(tasks.add, (n, 1)) for n in numbers])

    def command(self, how: How) -> list[str]:
        # Its own command would load the tasks anew for each job.
        return [sys.executable, "-m", __name__, self.worker, how.log.upper()]

    def waiting(self, client: t.Any) -> int:
        return int(client.llen("rq:queue:default"))

    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        return int(client.zcard("rq:finished:default"))

    def value(self, handle: t.Any) -> t.Any:
        return handle.return_value()


class RqSimple(Rq):
    """``SimpleWorker``, which runs jobs in its own process."""

    jobs = 1_000
    worker = "SimpleWorker"


if __name__ == "__main__":
    getattr(rq, sys.argv[1])([queue], connection=client).work(logging_level=sys.argv[2])
