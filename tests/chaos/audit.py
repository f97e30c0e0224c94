"""Whether Redis holds what it should after a run: read key by key, by none of ours."""

from __future__ import annotations

import json
import typing as t
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import redis

from ..servers import eventually
from .producer import Call

ON_ITS_WAY = (
    "rq:queue:", "tq:ready:", "rq:wip:", "rq:scheduled:", "rq:deferred:",
)  # fmt: skip
"""Beginnings of the keys, one a queue, that are gone when all jobs have ended."""

GONE = ("rq:execution", "tq:parked", "tq:aftermath", "tq:followups", "tq:scratch")
"""Beginnings of others that are gone then, too."""

OWNED = (
    "rq:queues", "rq:workers", "rq:finished:", "rq:failed:", "rq:canceled:", "tq:swept",
)  # fmt: skip
"""Beginnings of those that have no lifetime: sets that are kept small, and one time."""

REGISTRIES = {"finished": 0, "failed": 1, "canceled": 2}
TYPES = {"finished": b"1", "failed": b"2", "canceled": b"3"}
PAGE = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """A job and its result stream.

    :param registries: Whether it is in that of the finished, failed and revoked.
    """

    status: str | None
    retries: int
    recoveries: int
    registries: tuple[bool, bool, bool]
    entries: Sequence[dict[bytes, bytes]]
    lives: int

    @property
    def value(self) -> object:
        """What it returned."""
        return json.loads(b64decode(self.entries[-1][b"return_value"]))

    def problems(self) -> t.Iterator[str]:
        """What does not fit together."""
        if self.status not in TYPES:
            yield f"is {self.status}, has not ended"
            return
        if [entry[b"type"] for entry in self.entries] != [TYPES[self.status]]:
            yield f"is {self.status} and has the results {self.entries}"
        if self.registries != tuple(n == self.status for n in REGISTRIES):
            yield f"is {self.status} and in the registries {self.registries}"
        if self.lives < 0:
            yield "is kept for ever"


class Audit:
    """Looks at one server.

    :param queues: All that are used.
    """

    def __init__(self, client: redis.Redis, queues: Iterable[str]) -> None:
        self.client: t.Any = client
        self.queues = list(queues)

    def await_end(self, timeout: float) -> None:
        """Wait until no job is on its way."""
        names = [prefix + queue for prefix in ON_ITS_WAY for queue in self.queues]
        eventually(
            lambda: not self.client.exists(*names), timeout, "all jobs have ended"
        )

    def stored(self, calls: Sequence[Call]) -> dict[str, Stored]:
        """The jobs of calls by their ids."""
        found: dict[str, Stored] = {}
        for first in range(0, len(calls), PAGE):
            found |= self._page(calls[first : first + PAGE])
        return found

    def _page(self, calls: Sequence[Call]) -> dict[str, Stored]:
        with self.client.pipeline(transaction=False) as pipe:
            for call in calls:
                key = f"rq:job:{call.id}"
                pipe.hmget(key, "status", "tq_retries", "tq_recoveries")
                pipe.ttl(key)
                pipe.xrange(f"rq:results:{call.id}")
                for name in REGISTRIES:
                    pipe.zscore(f"rq:{name}:{call.queue}", call.id)
            rows = iter(pipe.execute())
        return {call.id: self._read(rows) for call in calls}

    def _read(self, rows: t.Iterator[t.Any]) -> Stored:
        status, retries, recoveries = next(rows)
        lives, stream = next(rows), next(rows)
        finished, failed, canceled = (next(rows) is not None for _ in REGISTRIES)
        return Stored(
            None if status is None else status.decode(),
            int(retries or 0),
            int(recoveries or 0),
            (finished, failed, canceled),
            [fields for _, fields in stream],
            lives,
        )

    def problems(self, calls: Sequence[Call]) -> list[str]:
        """What is wrong with the jobs of accepted calls, all of which have ended."""
        found = []
        for call, stored in zip(calls, self.stored(calls).values(), strict=True):
            wrong = [*stored.problems()]
            if not wrong and stored.status not in call.ends:
                wrong = [f"is {stored.status}, not {call.ends}"]
            if not wrong and stored.status == "finished":
                wrong = _wrong_value(call, stored)
            found += [f"{call}: {one}" for one in wrong]
        return found

    def leaks(self) -> list[str]:
        """Keys that should be gone, or that stay for ever and belong to nobody."""
        left = sorted(key.decode() for key in self.client.scan_iter(count=1000))
        with self.client.pipeline(transaction=False) as pipe:
            for key in left:
                pipe.ttl(key)
            lives = pipe.execute()
        return [
            key
            for key, seconds in zip(left, lives, strict=True)
            if key.startswith((*ON_ITS_WAY, *GONE))
            or seconds == -1
            and not key.startswith(OWNED)
        ]


def _wrong_value(call: Call, stored: Stored) -> list[str]:
    right = call.value is None or stored.value == call.value
    return [] if right else [f"gave {stored.value}"]
