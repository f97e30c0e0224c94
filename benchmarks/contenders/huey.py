"""Huey."""

from __future__ import annotations

import os
import sys
import typing as t
from collections.abc import Sequence
from pathlib import Path

from huey import RedisHuey

from .. import serving, tasks
from .interface import Contender, How

app = RedisHuey("bench", url=os.environ[serving.ENVIRONMENT])
add = app.task()(tasks.add)


class Huey(Contender):
    """``huey_consumer -k process``; it has one queue."""

    jobs = 6_000

    def call(self, number: int) -> t.Any:
        return add(number, 1)

    def command(self, how: How) -> list[str]:
        consumer = str(Path(sys.executable).with_name("huey_consumer"))
        options = ["-k", "process", "-w", str(how.slots)]
        quiet = ["-q"] if how.log == "warning" else []
        return [consumer, f"{__name__}.app", *options, *quiet]

    def waiting(self, client: t.Any) -> int:
        return int(client.llen("huey.redis.bench"))

    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        return int(client.hlen("huey.results.bench"))

    def value(self, handle: t.Any) -> t.Any:
        return handle()

    def wait(self, handle: t.Any) -> t.Any:
        return handle(blocking=True, timeout=10, backoff=1, max_delay=0.001)
