"""Where each job is, read from Redis key by key: none of the package's own readers."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import redis

OWNED = (
    "rq:queue:", "rq:wip:", "rq:scheduled:", "rq:deferred:", "rq:finished:",
    "rq:failed:", "rq:canceled:", "rq:workers:", "tq:ready:", "tq:parked:",
)  # fmt: skip
"""Beginnings of keys without a lifetime: who puts something there takes it out."""

KEPT = {"rq:queues", "rq:workers", "tq:swept", "tq:paused", "tq:parked"}
"""Other such keys: there is one of each."""

REGISTRIES = ("finished", "failed", "canceled")
SETS = ("scheduled", "deferred")
READ: dict[bytes, str] = {
    b"hash": "hgetall", b"list": "lrange", b"zset": "zrange", b"set": "smembers",
    b"stream": "xrange", b"string": "get",
}  # fmt: skip
ARGUMENTS: dict[bytes, tuple[t.Any, ...]] = {
    b"list": (0, -1), b"zset": (0, -1, False, True),
}  # fmt: skip


class Look:
    """All that Redis holds at one moment in which nobody changes it.

    :ivar values: By key.
    :ivar ttls: Seconds by key; -1 is for ever.
    """

    def __init__(self, client: redis.Redis) -> None:
        untyped: t.Any = client
        keys = sorted(untyped.keys())
        pipe = untyped.pipeline()
        pipe.time()
        for key in keys:
            pipe.type(key)
            pipe.ttl(key)
        (seconds, _), *about = pipe.execute()
        pipe = untyped.pipeline()
        for key, kind in zip(keys, about[::2], strict=True):
            getattr(pipe, READ[kind])(key, *ARGUMENTS.get(kind, ()))
        names = [key.decode() for key in keys]
        self.now = float(seconds)
        self.ttls: dict[str, int] = dict(zip(names, about[1::2], strict=True))
        self.values: dict[str, t.Any] = dict(zip(names, pipe.execute(), strict=True))

    def members(self, key: str) -> list[str]:
        """Of a list or a sorted set, in order."""
        found = self.values.get(key, [])
        return [(x[0] if isinstance(x, tuple) else x).decode() for x in found]

    def field(self, job_id: str, name: str) -> str:
        """Of a job's hash; ``""`` where there is none."""
        value = self.values.get(f"rq:job:{job_id}", {}).get(name.encode(), b"")
        return t.cast(str, value.decode("utf-8", "replace"))

    @property
    def jobs(self) -> set[str]:
        """Ids of all jobs that have a hash."""
        prefix = "rq:job:"
        return {
            key.removeprefix(prefix) for key in self.values if key.startswith(prefix)
        }

    @property
    def kept_for_ever(self) -> set[str]:
        """Keys without a lifetime that nobody owns; jobs' are among them."""
        return {
            key
            for key, ttl in self.ttls.items()
            if ttl == -1 and not key.startswith(OWNED) and key not in KEPT
        }

    @property
    def named(self) -> set[str]:
        """Ids that any place names."""
        found: set[str] = set()
        for key in self.values:
            if key.startswith("rq:wip:"):
                found |= {x.rpartition(":")[0] for x in self.members(key)}
            elif key.startswith(OWNED) and not key.startswith("rq:workers:"):
                found |= set(self.members(key))
        return found

    def _queues_with(self, prefix: str) -> Iterator[tuple[str, str]]:
        for key in self.values:
            if key.startswith(prefix + ":"):
                yield key, key.removeprefix(prefix + ":")

    def places(self, job_id: str) -> list[tuple[str, str]]:
        """Each place that a job is in, with its queue."""
        waits = self._waits_in(job_id)
        found = [("queue", queue) for queue in waits]
        for key, queue in self._queues_with("rq:wip"):
            owners = [member.rpartition(":")[0] for member in self.members(key)]
            found += [("wip", queue)] * owners.count(job_id)
        for name in SETS:
            for key, queue in self._queues_with(f"rq:{name}"):
                found += [(name, queue)] * (job_id in self.members(key))
        for name in REGISTRIES:
            for key, queue in self._queues_with(f"rq:{name}"):
                scores = {id.decode(): score for id, score in self.values[key]}
                found += [(name, queue)] * (scores.get(job_id, 0.0) > self.now)
        return found

    def _waits_in(self, job_id: str) -> list[str]:
        """Queues whose lists have it. Of one that does not wait, or waits elsewhere,
        an entry is only stale: whoever claims drops it."""
        if self.field(job_id, "status") != "queued":
            return []
        both = [*self._queues_with("rq:queue"), *self._queues_with("tq:ready")]
        queues = sorted({q for key, q in both if job_id in self.members(key)})
        origin = self.field(job_id, "origin")
        return [origin] if origin in queues else queues

    def ends(self, job_id: str) -> int:
        """How many entries its result stream has."""
        return len(self.values.get(f"rq:results:{job_id}", ()))


STATUS = {
    "queue": {"queued"}, "wip": {"started"}, "scheduled": {"scheduled"},
    "deferred": {"deferred"}, "finished": {"finished"},
    "failed": {"failed", "stopped"}, "canceled": {"canceled"},
}  # fmt: skip


def one_place(look: Look, job_id: str) -> tuple[str, str]:
    """The one place a job is in, which its status must agree with."""
    places = look.places(job_id)
    assert len(places) == 1, (job_id, places)
    assert look.field(job_id, "status") in STATUS[places[0][0]], job_id
    return places[0]


@contextmanager
def unchanged(client: redis.Redis) -> Iterator[None]:
    """Fails where anything in Redis is another afterwards."""
    before = Look(client)
    yield
    after = Look(client)
    assert after.values == before.values
    assert {key for key, ttl in after.ttls.items() if ttl == -1} == {
        key for key, ttl in before.ttls.items() if ttl == -1
    }
