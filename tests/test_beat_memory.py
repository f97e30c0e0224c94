"""A beat that ticks on and on holds no more than at first."""

from __future__ import annotations

import gc
import logging
import re
import sys
import typing as t
from collections.abc import Iterator
from datetime import UTC

import pytest
import redis

from flask_taskqueue import keys
from flask_taskqueue.beat.entries import read_entry
from flask_taskqueue.worker.embedded_beat import BeatThread

from .running import InProcess
from .servers import Server, eventually

ENTRIES = 50
JUMP = 40
"""Seconds the clock jumps: less than the grace, so that each one is fired."""
TICKS = 7_000
BLOCKS = 500
"""Of memory, that may come and go: far fewer than one for each tick."""


class Jumping(InProcess):
    """A beat with entries of a second each, on a server whose clock jumps."""

    def __init__(self, server: Server, client: redis.Redis) -> None:
        super().__init__(__name__, server.url, client)
        self.raw: t.Any = client
        self.tq.task(name="work")(lambda: None)
        self.server = server
        self._ahead = 0
        self._due = f"tq:due:{self.app.name}"
        parts = {"task": "work", "schedule": 1}
        entries = [read_entry(f"e{n}", parts, UTC) for n in range(ENTRIES)]
        self.beat = BeatThread(self.tq.state_of(self.app), "beat", entries)
        eventually(lambda: self.raw.zcard(self._due) == ENTRIES)

    def jump(self) -> int:
        """Let all become due often, and remove their jobs; how many there were."""
        self._ahead += JUMP
        self.server.set_clock(self._ahead)
        self.raw.publish(keys.NAMES["entries_changed"], self.app.name)
        until = self.raw.time()[0]
        eventually(lambda: not self.raw.zcount(self._due, "-inf", until))
        jobs = self.raw.lrange("rq:queue:default", 0, -1)
        assert len(set(jobs)) == len(jobs)
        self.raw.delete("rq:queue:default", *(b"rq:job:" + job for job in jobs))
        return len(jobs)

    def run(self) -> int:
        """Tick often; the fewest blocks of memory that were in use."""
        made, blocks = 0, []
        while made < TICKS:
            made += self.jump()
            gc.collect()
            # Any number while it is in the middle of a tick.
            blocks.append(sys.getallocatedblocks())
        return min(blocks)

    def kept(self) -> int:
        """Keys in Redis, but for jobs, and the lead, which a jump lets expire."""
        passing = re.compile(rb"rq:job:.*-\d{13}|rq:queue:.*|tq:lead:.*")
        return sum(not passing.fullmatch(key) for key in self.raw.keys())


@pytest.fixture
def jumping(clock_server: Server) -> Iterator[Jumping]:
    with clock_server.client() as client:
        made = Jumping(clock_server, client)
        yield made
        made.beat.stop()
        eventually(made.beat.death)


def test_memory_stays_flat_over_many_ticks(
    jumping: Jumping, caplog: pytest.LogCaptureFixture
):
    # A test keeps the lines that are logged, where an earlier one asked for them.
    caplog.set_level(logging.WARNING, "flask_taskqueue")
    jumping.run()
    kept, blocks = jumping.kept(), jumping.run()
    assert jumping.run() - blocks < BLOCKS
    assert jumping.kept() == kept
