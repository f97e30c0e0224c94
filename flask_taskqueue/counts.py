"""Counts the jobs of each queue by where they are. Changes nothing.

Redis keeps these counts: a long queue takes no longer than a short one.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from . import keys
from .appstate import AppState
from .broker import scripts
from .places import ENDED, PLACES

_REGISTRY = {"running": "wip", "revoked": "canceled"}

T = t.TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """A queue, and how many of its jobs are where.

    :param paused: Nothing is taken from it.
    :param workers: Live workers that serve it.
    """

    name: str
    running: int
    waiting: int
    scheduled: int
    deferred: int
    failed: int
    finished: int
    revoked: int
    paused: bool
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """All queues that are known.

    :param suspended: Nothing is taken from any queue (``rq suspend``).
    """

    queues: tuple[QueueCounts, ...]
    suspended: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A key with ids of jobs."""

    queue: str
    place: str
    key: str
    is_list: bool = False

    def length(self, pipeline: scripts.Client) -> None:
        """Ask for the number of its entries."""
        (pipeline.llen if self.is_list else pipeline.zcard)(self.key)


def sources(queue: str, places: Iterable[str]) -> Iterator[Source]:
    """The keys with a queue's jobs in these places."""
    for place in places:
        if place == "waiting":
            yield Source(queue, place, keys.ready(queue), is_list=True)
            yield Source(queue, place, keys.queue(queue), is_list=True)
        else:
            prefix = keys.PREFIXES[_REGISTRY.get(place, place)]
            yield Source(queue, place, prefix + queue)


def queues(state: AppState) -> Queues:
    """Count the jobs of every queue: those configured, and those Redis has.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.monitor
    with state.broker.errors():
        names, paused, suspended = known(state)
        found = _counted(client, names)
        workers = _workers(client, names)
    rows = (
        QueueCounts(name=n, paused=n in paused, workers=workers[n], **found[n])
        for n in names
    )
    return Queues(queues=tuple(rows), suspended=suspended)


def known(state: AppState) -> tuple[list[str], set[str], bool]:
    """Names of queues, names of paused ones, and whether all are suspended.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.monitor
    with state.broker.errors():
        pipeline = client.pipeline(transaction=False)
        pipeline.smembers(keys.NAMES["queues"])
        pipeline.smembers(keys.NAMES["paused"])
        pipeline.exists(keys.NAMES["suspended"])
        stored, held, suspended = pipeline.execute()
    prefix = keys.PREFIXES["queue"]
    names = {key.decode(errors="replace").removeprefix(prefix) for key in stored}
    paused = {name.decode(errors="replace") for name in held}
    configured = state.config.router.queue_names
    rest = sorted((names | paused) - set(configured))
    return [*configured, *rest], paused, bool(suspended)


def idle(state: AppState, names: Sequence[str]) -> dict[str, str]:
    """Queues from which nothing is taken, and why.

    :param names: Queues to look at.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.monitor
    with state.broker.errors():
        _, paused, suspended = known(state)
        workers = _workers(client, names)
    if suspended:
        return dict.fromkeys(names, "all queues are suspended")
    served = {name for name in names if workers[name]}
    found = {n: "no worker serves its queue" for n in names if n not in served}
    return found | {n: "its queue is paused" for n in names if n in paused}


def executed(pipeline: scripts.Client, instead: T) -> list[T]:
    """The replies of a pipeline.

    :param instead: Stands for the reply of a key that holds something else.
    :raises redis.RedisError: Redis did not answer.
    """
    replies = pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
            raise reply
    return [instead if isinstance(reply, Exception) else reply for reply in replies]


def _counted(client: scripts.Client, names: Sequence[str]) -> dict[str, dict[str, int]]:
    # Entries of expired jobs stay in their registries for up to a minute.
    now = f"{time.time():.3f}"
    pipeline = client.pipeline(transaction=False)
    asked = [source for name in names for source in sources(name, PLACES)]
    for source in asked:
        if source.place in ENDED:
            pipeline.zcount(source.key, now, "+inf")
        else:
            source.length(pipeline)
    found = {name: dict.fromkeys(PLACES, 0) for name in names}
    for source, count in zip(asked, executed(pipeline, 0), strict=True):
        found[source.queue][source.place] += count
    return found


def _workers(client: scripts.Client, names: Sequence[str]) -> dict[str, int]:
    """Live workers of each queue: a record is gone 90 s after its worker was."""
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.smembers(keys.PREFIXES["workers_of"] + name)
    nobody: set[bytes] = set()
    members = executed(pipeline, nobody)
    records = sorted(nobody.union(*members))
    for record in records:
        pipeline.exists(record)
    answers = zip(records, executed(pipeline, 0), strict=True)
    alive = {record for record, exists in answers if exists}
    return {n: len(m & alive) for n, m in zip(names, members, strict=True)}
