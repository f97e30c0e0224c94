"""The right to begin a job that was claimed ahead, on either kind of descriptor."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
import typing as t
from contextlib import contextmanager

import pytest

from flask_taskqueue.worker.tokens import Tokens

PATIENCE = 30.0
"""Seconds a race may take on a busy machine."""


@pytest.fixture(params=["eventfd", "pipe"])
def tokens(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return Tokens()


@contextmanager
def forked(work: t.Callable[[], None]) -> t.Iterator[int]:
    """A process that does something again and again until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                work()
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_each_token_is_taken_once(tokens: Tokens):
    assert not tokens.take()
    tokens.add(2)
    tokens.add(1)
    assert [tokens.take() for _ in range(4)] == [True, True, True, False]
    tokens.add(15)
    assert tokens.take()
    assert tokens.take_all() == 14
    assert tokens.take_all() == 0


def test_two_processes_that_race_never_get_one_token_twice(tokens: Tokens):
    """Each round the taker of the last token is another; together they have all."""
    shared = mmap.mmap(-1, 8)
    theirs, mine, added = struct.Struct("=Q"), 0, 0

    def taken_there() -> int:
        return int(theirs.unpack_from(shared)[0])

    def take() -> None:
        if tokens.take():
            theirs.pack_into(shared, 0, taken_there() + 1)

    deadline = time.monotonic() + PATIENCE
    with forked(take):
        while min(mine, taken_there()) < 200:
            assert time.monotonic() < deadline, (mine, taken_there())
            tokens.add(16)
            added += 16
            # Where there is but one CPU: to let the other one in.
            os.sched_yield()
            mine += tokens.take_all()
            while mine + taken_there() < added:
                assert time.monotonic() < deadline, "a token is lost"
            assert mine + taken_there() == added
    assert not tokens.take()


def test_who_is_killed_with_it_in_hand_leaves_nothing_locked(tokens: Tokens):
    def come_and_go() -> None:
        tokens.add(3)
        tokens.take_all()

    for _ in range(20):
        with forked(come_and_go):
            while not tokens.take():
                os.sched_yield()
        left = tokens.take_all()
        assert left <= 3
        tokens.add(5)
        assert tokens.take()
        assert tokens.take_all() == 4


def test_the_descriptors_go_with_the_tokens(tokens: Tokens):
    descriptors = {tokens._read, tokens._write}
    more = Tokens()
    own = {more._read, more._write}
    assert own.isdisjoint(descriptors)
    del more
    for descriptor in own:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    assert all(map(os.fstat, descriptors))


def test_a_program_that_is_started_inherits_none(tokens: Tokens):
    descriptors = {tokens._read, tokens._write}
    assert not any(map(os.get_inheritable, descriptors))
