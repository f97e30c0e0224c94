"""Reads which workers there are, and asks whether they answer. Changes nothing."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

from . import commands, keys
from .appstate import AppState
from .broker import scripts
from .broker.connection import Subscription

_FIELDS = (
    "tq_version", "tq_standing", "state", "queues", "tq_pool", "tq_concurrency",
    "tq_jobs", "successful_job_count", "failed_job_count", "pid", "hostname", "birth",
    "last_heartbeat",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorker:
    """A worker, as its record in Redis has it. What cannot be read is ``None``.

    :param state: ``idle``, ``busy``, ``quiet``, ``reloading`` or ``stopping``; the
        last three take no jobs.
    :param concurrency: Jobs it runs at once.
    :param jobs: Ids of those that run, at most 3 s old.
    :param done: Jobs that succeeded, since it began.
    :param failed: Jobs that failed, since it began.
    :param seen_at: When it was heard of last. A record is kept for 90 s after that.
    """

    name: str
    state: str
    queues: tuple[str, ...]
    pool: str | None
    concurrency: int | None
    jobs: tuple[str, ...]
    done: int
    failed: int
    pid: int | None
    host: str | None
    since: datetime | None
    seen_at: datetime | None


def workers(state: AppState) -> list[SeenWorker]:
    """The workers there are, by name; plain RQ workers are left out.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.monitor
    prefix = keys.PREFIXES["worker"].encode()
    with state.broker.errors():
        known = sorted(client.smembers(keys.NAMES["workers"]))
        records = [key for key in known if key.startswith(prefix)]
        pipeline = client.pipeline(transaction=False)
        for record in records:
            pipeline.hmget(record, _FIELDS)
        replies = pipeline.execute()
    return [
        _read(record.removeprefix(prefix).decode(errors="replace"), values)
        for record, reply in zip(records, replies, strict=True)
        if (values := _texts(reply))["tq_version"]
    ]


def _texts(reply: Iterable[bytes | None]) -> dict[str, str]:
    texts = ((value or b"").decode(errors="replace") for value in reply)
    return dict(zip(_FIELDS, texts, strict=True))


def _read(name: str, values: Mapping[str, str]) -> SeenWorker:
    return SeenWorker(
        name=name,
        state=values["tq_standing"] or values["state"],
        queues=tuple(filter(None, values["queues"].split(","))),
        pool=values["tq_pool"] or None,
        concurrency=_number(values["tq_concurrency"]),
        jobs=_ids(values["tq_jobs"]),
        done=_number(values["successful_job_count"]) or 0,
        failed=_number(values["failed_job_count"]) or 0,
        pid=_number(values["pid"]),
        host=values["hostname"] or None,
        since=_instant(values["birth"]),
        seen_at=_instant(values["last_heartbeat"]),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _ids(text: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(text or "[]")))
    except (ValueError, TypeError):
        return ()


def _instant(text: str) -> datetime | None:
    """Of RQ's form, ``2026-01-02T03:04:05.678901Z``."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def ping(state: AppState, names: Sequence[str], patience: float) -> dict[str, float]:
    """Ask workers whether they are there.

    :param patience: Seconds to wait for those that do not answer.
    :return: Of those that answered, after how many seconds.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    channel = keys.answers(token_hex(8))
    answered: dict[str, float] = {}
    client: scripts.Client = state.broker.monitor
    answers = Subscription(client, (channel,))
    with state.broker.errors():
        try:
            # Listening comes first: an answer is not kept for anybody.
            answers.connect()
            began = time.monotonic()
            order = commands.Command(commands.PING, answer_to=channel).dumps()
            for name in names:
                client.publish(keys.commands(name), order)
            while len(answered) < len(set(names)):
                left = began + patience - time.monotonic()
                if not select.select([answers.fileno()], [], [], max(left, 0.0))[0]:
                    break
                after = time.monotonic() - began
                for _, answer in answers.messages():
                    answered.setdefault(answer.decode(errors="replace"), after)
        finally:
            answers.close()
    return answered
