"""What an app's entries did, read from Redis key by key: none of beat's own readers."""

from __future__ import annotations

import json
import time
import typing as t
from dataclasses import dataclass
from itertools import pairwise

import redis

from flask_taskqueue.beat.entries import entry_id

from ..servers import eventually

SCHEDULER_SET = "rq:scheduler:scheduled_jobs"
ROWS_KEPT = 100

EACH = {"task": "jobs.add", "schedule": 0.5, "args": [1, 2]}


def declaring(**entries: dict[str, t.Any]) -> dict[str, str]:
    """Environment of an app whose code declares these entries."""
    return {"FLASK_TASKQUEUE_BEAT_SCHEDULE": json.dumps(entries)}


@dataclass(frozen=True, slots=True)
class Row:
    """One firing. Instants are microseconds since 1970."""

    due: int
    at: int
    job: str
    what: str


def micros(seconds: str) -> int:
    """Microseconds of seconds that have 6 decimals."""
    whole, _, rest = seconds.partition(".")
    assert len(rest) == 6
    return int(whole + rest)


class Books:
    """The keys of one app's entries.

    :param client: Of the server.
    :param app: Name of the app.
    """

    def __init__(self, client: redis.Redis, app: str = "jobs") -> None:
        self.client: t.Any = client
        self.app = app
        # Those of other tests in this process live on for a while.
        self._others = self._connections()

    def _connections(self) -> set[str]:
        return {row["id"] for row in self.client.client_list()}

    def await_no_beat(self) -> None:
        """Wait until the server has done what the dead sent, and dropped them."""
        eventually(lambda: self._connections() <= self._others)

    def id(self, name: str) -> str:
        """Of an entry."""
        return entry_id(self.app, name)

    def rows(self, name: str) -> list[Row]:
        """An entry's history, oldest first."""
        lines = self.client.lrange(f"tq:firings:{self.id(name)}", 0, -1)
        split = [line.decode().split() for line in reversed(lines)]
        return [Row(micros(due), micros(at), job, what) for due, at, job, what in split]

    def last_due(self, name: str) -> float:
        """When it was due last of what has fired, in epoch seconds; 0 is never."""
        newest = self.client.lindex(f"tq:firings:{self.id(name)}", 0)
        return float(newest.split()[0]) if newest else 0.0

    def all_fired_to(self, names: t.Iterable[str]) -> float:
        """The earliest last due time of some entries; 0 if one has never fired."""
        return min(map(self.last_due, names))

    def await_firings(
        self, names: t.Iterable[str], seconds: float = 0.0, timeout: float = 15.0
    ) -> float:
        """Wait until entries have fired for times later than so many seconds from now.

        :return: When it was called, in epoch seconds.
        """
        now, names = time.time(), list(names)
        eventually(
            lambda: self.all_fired_to(names) > now + seconds,
            timeout,
            f"{names} fire for {now + seconds:.6f}",
        )
        return now

    def next_due(self, name: str) -> float | None:
        """When it is due next, in epoch seconds."""
        score = self.client.zscore(SCHEDULER_SET, self.id(name))
        return t.cast("float | None", score)

    def enqueued(self, queue: str = "default") -> dict[str, list[str]]:
        """Ids of the jobs in a queue by the ids of their entries, in order."""
        found: dict[str, list[str]] = {}
        for member in self.client.lrange(f"rq:queue:{queue}", 0, -1):
            job = member.decode()
            found.setdefault(job.rpartition("-")[0], []).append(job)
        return found

    def leader(self) -> str | None:
        """Name of the beat that leads."""
        name = self.client.get(f"tq:lead:{self.app}")
        return None if name is None else name.decode()

    def leader_pid(self) -> int | None:
        """Of the process of that beat."""
        name = self.leader()
        return None if name is None else int(name.rsplit(".", 2)[1])

    def end_lease(self) -> None:
        """Let time pass until the lease of a beat that is gone has ended."""
        self.client.delete(f"tq:lead:{self.app}")

    def names(self) -> set[str]:
        """Names of all entries, after a look that each is whole: in all places that
        an entry is in, with one next time, and ready to fire."""
        # At one moment: a beat may run.
        with self.client.pipeline() as pipe:
            pipe.zrange(f"tq:due:{self.app}", 0, -1, withscores=True)
            pipe.zrange(SCHEDULER_SET, 0, -1, withscores=True)
            pipe.smembers(f"tq:entries:{self.app}")
            pipe.keys("tq:entry:*")
            index, times, members, records = pipe.execute()
        # Others are rq-scheduler's own.
        ours = {id: due for id, due in times if id.startswith(b"beat-")}
        assert ours == dict(index)
        assert set(ours) == members
        assert {key.removeprefix(b"tq:entry:") for key in records} == members
        return {self._whole(id) for id in members}

    def _whole(self, id: bytes) -> str:
        record = self.client.hgetall(b"tq:entry:" + id)
        mirror = self.client.hmget(b"rq:job:" + id, "tq_entry", "status", "data")
        assert not {b"paused", b"ended", b"cancelled"} & set(record)
        assert mirror[:2] == [record[b"name"], b"scheduled"]
        assert mirror[2]
        name: str = record[b"name"].decode()
        assert id.decode() == self.id(name)
        return name

    def assert_each_once(self, name: str, interval: float, queue: str = "default"):
        """Each due time from the first to the last was fired exactly once, and none
        early: by the history, and by the jobs in a queue that nobody reads."""
        rows, jobs = self.rows(name), self.enqueued(queue)[self.id(name)]
        assert_on_grid([row.due for row in rows], round(interval * 1_000_000), name)
        # The history is cut; the queue has all of them. Ids are cut to milliseconds.
        assert [row.job for row in rows] == jobs[-ROWS_KEPT:]
        assert len(rows) == min(len(jobs), ROWS_KEPT)
        first = round(rows[-1].due - (len(jobs) - 1) * interval * 1_000_000)
        wanted = [
            f"{self.id(name)}-{(first + round(n * interval * 1_000_000)) // 1000}"
            for n in range(len(jobs))
        ]
        assert jobs == wanted, f"{name}: a due time is missing, or was fired twice"
        assert {row.what for row in rows} == {"fired"}
        assert all(row.at >= row.due for row in rows), f"{name} was fired early"

    def assert_none_twice(self, name: str, queue: str = "default") -> list[int]:
        """No due time of an entry was fired twice, or after a later one.

        :return: The due times of its jobs, in milliseconds.
        """
        jobs = self.enqueued(queue).get(self.id(name), [])
        dues = [int(job.rpartition("-")[2]) for job in jobs]
        assert all(a < b for a, b in pairwise(dues)), f"{name}: {dues}"
        return dues


def assert_on_grid(dues: list[int], step: int, name: str) -> None:
    """Due times follow each other by one step, without a hole or a double."""
    wrong = [(a, b) for a, b in pairwise(dues) if b - a != step]
    assert not wrong, f"{name}: {wrong} of {len(dues)}"
