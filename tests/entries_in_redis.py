"""Entries of beat as the scripts keep them: written, fired and read by short calls."""

from __future__ import annotations

import time
import typing as t

from flask_taskqueue.beat import scripts
from flask_taskqueue.beat.scripts import Look, Tick
from flask_taskqueue.broker.wire import NewJob

from .plain_schedulers import SET

Client = t.Any

LOCK = "rq:scheduler_lock"
APP = "shop"
ENTRY = "beat-nightly-12345678"

# Of six decimals the last is not 0: Redis writes a score without such ones.
PAST = f"{int(time.time()) - 5}.123457"
"""A time that an entry is due at."""

LATER = f"{int(time.time()) + 86_400}.234561"
LATER_STILL = f"{int(time.time()) + 172_800}.345671"


def definition(**given: str) -> dict[str, t.Any]:
    """The definition part of a record."""
    parts = {
        "name": "nightly", "app": APP, "source": "code", "task": "t.x", "queue": "q",
        "definition": "{}", "call": b"[]", "fingerprint": "f1", "rhythm": "r1",
    }  # fmt: skip
    return {**parts, **given}


def new(job_id: str, queue: str = "q", **given: t.Any) -> NewJob:
    """A job as it is prepared."""
    fields = {"data": b"[]", "tq_task": "t.x", "result_ttl": 100, "failure_ttl": 200}
    return NewJob(id=job_id, queue=queue, fields=fields, **given)


def put(
    client: Client,
    entry_id: str = ENTRY,
    *,
    known: str = scripts.ANY,
    nonce: str = "",
    first: str = PAST,
    last_due: str = "",
    enabled: bool = True,
    replaces: str = "",
    replaced_due: str = "",
    **given: str,
) -> int:
    """Write an entry; ``given`` are parts of its definition."""
    return scripts.put(
        client,
        APP,
        entry_id,
        definition(**given),
        new(entry_id),
        known=known,
        nonce=nonce,
        first=first,
        last_due=last_due,
        enabled=enabled,
        replaces=replaces,
        replaced_due=replaced_due,
    )


def tick(client: Client, entry_id: str = ENTRY, **given: t.Any) -> int:
    """Fire an entry that was due at PAST; its code. ``given`` are parts of the tick."""
    due = given.setdefault("due", PAST)
    given.setdefault("job", new(f"{entry_id}-{due}") if due else None)
    parts = {
        "id": entry_id, "fingerprint": "f1", "expected": PAST, "next": LATER,
        "skip_overlap": False,
    }  # fmt: skip
    return scripts.tick_many(client, APP, [Tick(**{**parts, **given})])[0]


def trigger(client: Client, job: NewJob, nonce: str = "n") -> int:
    """Enqueue a job of the entry now; the code."""
    return scripts.trigger(client, ENTRY, job, nonce)


def look(client: Client, beat: str = "one", most: int = 10, lease: float = 4) -> Look:
    """A look of a beat."""
    return scripts.lead(client, APP, beat, lease=lease, most=most)


def record(client: Client, entry_id: str = ENTRY) -> dict[str, str]:
    """An entry's record."""
    found = client.hgetall(f"tq:entry:{entry_id}")
    return {name.decode(): value.decode() for name, value in found.items()}


def score(client: Client, entry_id: str = ENTRY) -> float | None:
    """An entry's next time; the index has it, too."""
    found: float | None = client.zscore(SET, entry_id)
    assert client.zscore(f"tq:due:{APP}", entry_id) == found
    return found


def rows(client: Client, entry_id: str = ENTRY) -> list[list[str]]:
    """An entry's history: due time, job and what it was, the last first."""
    found = [
        row.decode().split(" ")
        for row in client.lrange(f"tq:firings:{entry_id}", 0, -1)
    ]
    assert all(abs(float(at) - time.time()) < 60 for _, at, _, _ in found)
    return [[due, job, what] for due, _, job, what in found]


def waiting(client: Client, queue: str = "q") -> list[str]:
    """Ids in a queue."""
    return [job_id.decode() for job_id in client.lrange(f"rq:queue:{queue}", 0, -1)]


def everything(client: Client) -> dict[bytes, bytes]:
    """All that is stored, except who leads, with times to live left out."""
    ours = (b"tq:lead:", LOCK.encode())
    return {key: client.dump(key) for key in client.keys() if not key.startswith(ours)}


def changed(client: Client) -> None:
    """Write another definition."""
    put(client, fingerprint="f2")


def moved(client: Client) -> None:
    """Set another next time, as rq-scheduler's API does."""
    client.zadd(SET, {ENTRY: LATER})


def paused(client: Client) -> None:
    """Pause the entry."""
    scripts.pause(client, APP, ENTRY)


def paused_and_put_back(client: Client) -> None:
    """Pause it, and give it a next time all the same."""
    paused(client)
    for key in (SET, f"tq:due:{APP}"):
        client.zadd(key, {ENTRY: PAST})


def cancelled(client: Client) -> None:
    """Take it out of the set, as rq-scheduler's API does."""
    client.zrem(SET, ENTRY)


def over(client: Client) -> None:
    """Let it be a one-off that has fired."""
    client.zrem(SET, ENTRY)
    client.hset(f"tq:entry:{ENTRY}", "ended", "1")
