"""Dramatiq."""

from __future__ import annotations

import os
import sys
import typing as t
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from .. import serving, tasks
from .interface import Contender, How

THREADS = 8
"""Of each process; its own default."""

_URL = os.environ[serving.ENVIRONMENT]
broker = RedisBroker(url=_URL)
backend = RedisBackend(url=_URL)
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)
add = dramatiq.actor(store_results=True)(tasks.add)


class Dramatiq(Contender):
    """``dramatiq`` with 8 threads in each process."""

    jobs = 4_000

    def call(self, number: int) -> t.Any:
        return add.send(number, 1)

    def command(self, how: How) -> list[str]:
        options = ["-p", str(how.slots), "-t", str(THREADS)]
        return [sys.executable, "-m", "dramatiq", __name__, *options]

    def waiting(self, client: t.Any) -> int:
        return int(client.llen("dramatiq:default"))

    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        keys = [backend.build_message_key(handle) for handle in handles]
        return int(client.exists(*keys))

    def value(self, handle: t.Any) -> t.Any:
        return handle.get_result(backend=backend)
