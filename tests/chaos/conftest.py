"""Fixtures of the chaos tests.

What runs with the other tests is short. By hand, from the environment:

* ``CHAOS_SECONDS``: how long beats and workers are killed at random.
* ``CHAOS_SEED``: another order of kills, stops and starts.
* ``CHAOS_EXAMPLES``: so many examples of Hypothesis, other ones each time.
* ``CHAOS_LONG=1``: long lanes, about nine minutes. Redis is away for 30 s instead of
  15, and in other trouble for longer than a lease; 20 rolling restarts instead of 4;
  and 10,000 mixed jobs are waited for until nothing is left of them.

For example ``CHAOS_LONG=1 CHAOS_SECONDS=300 CHAOS_SEED=7 pytest tests/chaos``.
"""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
import redis

from .books import Books
from .stage import Stage


@pytest.fixture
def books(client: redis.Redis) -> Books:
    """The entries of ``tests/apps/jobs.py`` on the shared server."""
    return Books(client)


@pytest.fixture
def stage(tmp_path: Path) -> t.Iterator[Stage]:
    """``tests/apps/chaotic.py`` on a server of its own."""
    with Stage(tmp_path) as stage:
        yield stage


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> t.Callable[[str], None]:
    """Prints what was measured, whether the test passes or not."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return say
