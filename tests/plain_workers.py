"""RQ's own worker in the test's process, to compare ours with."""

from __future__ import annotations

import signal

import redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer


def run_one(client: redis.Redis, queue: str = "default") -> None:
    """Let RQ's ``SimpleWorker`` run the next job of a queue."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    queues = [Queue(queue, connection=client, serializer=JSONSerializer)]
    worker = SimpleWorker(queues, connection=client, serializer=JSONSerializer)
    try:
        worker.work(burst=True, max_jobs=1, logging_level="ERROR")
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
