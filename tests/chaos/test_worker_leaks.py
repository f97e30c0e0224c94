"""After jobs of all kinds and their lifetimes Redis holds what it held before."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from flask_taskqueue.broker import scripts

from ..servers import Server, eventually
from .producer import Call
from .stage import LONG, Stage

MIXED = ("work", "later", "shaky", "broken", "expired", "revoked")
OF_JOBS = (
    "rq:job:", "rq:results:", "rq:finished:", "rq:failed:", "rq:canceled:",
)  # fmt: skip
EIGHT_DAYS = 8 * 86_400
"""Seconds, longer than a failed job is kept by default."""


def mixed(count: int) -> list[Call]:
    """So many jobs, as many of each kind."""
    return [Call(MIXED[n % len(MIXED)], n) for n in range(count)]


def keys(stage: Stage) -> set[str]:
    """Names of all keys; those of workers without what is new with each."""
    names = {key.decode() for key in stage.client.scan_iter(count=1000)}
    return {name.partition("rq:worker:")[1] or name for name in names}


def keys_without_jobs(stage: Stage, timeout: float) -> set[str]:
    """The keys that are there once those of jobs are gone."""
    eventually(
        lambda: not any(name.startswith(OF_JOBS) for name in keys(stage)),
        timeout,
        "the jobs are gone",
    )
    return keys(stage)


def keys_after_eight_days(stage: Stage, calls: list[Call], days: int) -> set[str]:
    """What is left of these jobs, run by a worker that then ends."""
    worker = stage.worker("-c", "2")
    stage.make(calls)
    stage.audit.await_end(30)
    assert worker.stop() == 0
    stage.assert_each_once(calls)
    assert stage.audit.leaks() == []
    stage.server.set_clock(days * EIGHT_DAYS)
    # A worker does it once a minute.
    scripts.prune(stage.client, most=2000)
    return keys_without_jobs(stage, 10)


def test_nothing_is_left_of_a_thousand_mixed_jobs(tmp_path: Path, clock_server: Server):
    with Stage(tmp_path, server=clock_server) as stage:
        before = keys_after_eight_days(stage, [Call("work", 9999)], 1)
        assert keys_after_eight_days(stage, mixed(1000), 2) == before


@pytest.mark.skipif(not LONG, reason="takes three minutes: CHAOS_LONG is not set")
@pytest.mark.timeout(900)
def test_nothing_is_left_of_ten_thousand_mixed_jobs_after_their_lifetimes(
    tmp_path: Path, say: t.Callable[[str], None]
):
    with Stage(tmp_path, RESULT_TTL=60, FAILURE_TTL=60) as stage:
        worker = stage.worker("-c", "2")
        stage.make([Call("work", 99_999)])
        before = keys_without_jobs(stage, 200)
        size = stage.client.dbsize()
        calls = mixed(10_000)
        stage.make(calls)
        stage.audit.await_end(120)
        most = stage.client.dbsize()
        stage.assert_each_once(calls)
        eventually(lambda: keys(stage) == before, 200, f"{before} are left")
        assert stage.client.dbsize() == size
        say(f"DBSIZE {size} before 10,000 mixed jobs, {most} after, {size} in the end")
        assert worker.stop() == 0
