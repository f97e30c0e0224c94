"""Soft limits of threads: what they interrupt, and what they never hit."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_taskqueue import _rq
from flask_taskqueue.errors import SoftTimeLimitExceeded
from flask_taskqueue.worker.alarms import Alarm, Clock, ThreadTimer

from .servers import eventually

T = t.TypeVar("T")


class Thread:
    """A thread whose functions are limited, and the clock of that."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.timer = ThreadTimer(self.clock)
        self._ringing = threading.Thread(target=self.clock.run)
        self._ringing.start()
        self._pool = ThreadPoolExecutor(1)

    def call(self, function: Callable[[], T]) -> T:
        """What a function gives that is called in the thread."""
        return self._pool.submit(function).result(20)

    def begin(self, function: Callable[[], object]) -> t.Any:
        """Call it there and do not wait."""
        return self._pool.submit(function)

    def close(self) -> None:
        self.clock.stop()
        self._ringing.join()
        self._pool.shutdown()


@pytest.fixture
def thread() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.close()


def forever() -> None:
    while True:
        pass


@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, _rq.JobTimeoutException])
def test_it_raises_in_the_thread_what_it_was_told(
    thread: Thread, kind: type[Exception]
):
    def work() -> None:
        with thread.timer.limit(0.05, kind):
            forever()

    with pytest.raises(kind, match="the soft time limit is over") as caught:
        thread.call(work)
    assert type(caught.value) is kind
    assert thread.timer.rang


def test_it_can_be_caught_and_does_not_come_again(thread: Thread):
    def work() -> str:
        with thread.timer.limit(0.05, SoftTimeLimitExceeded):
            try:
                forever()
            except SoftTimeLimitExceeded as error:
                end = time.monotonic() + 0.2
                while time.monotonic() < end:
                    pass
                return str(error)
        return "never"

    assert thread.call(work) == "the soft time limit is over"


def test_no_limit_costs_nothing_and_does_nothing(thread: Thread):
    def work() -> str:
        with thread.timer.limit(None, SoftTimeLimitExceeded):
            return "done"

    assert thread.call(work) == "done"
    assert not thread.timer.rang


def test_the_next_limit_counts_from_its_own_start(thread: Thread):
    def work() -> str:
        with thread.timer.limit(60, SoftTimeLimitExceeded):
            pass
        with thread.timer.limit(0.05, SoftTimeLimitExceeded):
            forever()
        return "never"

    with pytest.raises(SoftTimeLimitExceeded):
        thread.call(work)


def test_one_that_rings_after_the_return_hits_nothing(thread: Thread):
    def work() -> str:
        # As where the clock had decided to ring it, and comes to it too late.
        with Alarm(thread.timer, 60, SoftTimeLimitExceeded) as alarm:
            pass
        alarm.ring()
        for _ in range(1000):
            thread.timer.unset()
        return "unharmed"

    assert thread.call(work) == "unharmed"
    assert not thread.timer.rang


def spin(seconds: float) -> None:
    # A function of its own, as a task's is: an exception that arrives at the end of
    # such a loop passes by the handlers around it in CPython 3.13.0.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_limits_that_are_over_as_functions_return_hit_nothing_else(thread: Thread):
    """Hundreds of returns, each about when its limit is over."""

    def work() -> tuple[int, int]:
        hits = returns = 0
        end = time.monotonic() + 1
        for turn in itertools.count():
            seconds = (turn % 20) * 5e-4
            try:
                with thread.timer.limit(0.004, SoftTimeLimitExceeded):
                    spin(seconds)
            except SoftTimeLimitExceeded:
                hits += 1
            else:
                returns += 1
            # What follows is not the function's: nothing may be raised here.
            for _ in range(20):
                thread.timer.rang = False
            if time.monotonic() > end:
                break
        return hits, returns

    hits, returns = thread.call(work)
    assert hits > 5
    assert returns > 5


def test_it_does_not_leave_a_lock_locked_that_was_entered(thread: Thread):
    """A thread that waits for a ``Condition`` gets it, and the exception after that."""
    shared = threading.Condition()

    def work() -> None:
        with thread.timer.limit(0.02, SoftTimeLimitExceeded), shared:
            forever()

    with shared:
        working = thread.begin(work)
        alarm = eventually(lambda: thread.timer.alarm)
        first = alarm.at
        eventually(lambda: first < alarm.at < float("inf"), message="it is put off")
    with pytest.raises(SoftTimeLimitExceeded):
        working.result(20)
    assert shared.acquire(timeout=5)
    shared.release()


class Slow(logging.Handler):
    """Takes its time for a record."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        while not self.may_end.is_set():
            pass
        self.written.append(record.getMessage())


def test_a_line_of_the_log_is_written_to_its_end(thread: Thread):
    slow, logger = Slow(), logging.Logger("slow")
    logger.addHandler(slow)

    def work() -> None:
        with thread.timer.limit(0.02, SoftTimeLimitExceeded):
            logger.info("all of it")
            forever()

    working = thread.begin(work)
    alarm = eventually(lambda: thread.timer.alarm)
    first = alarm.at
    eventually(lambda: first < alarm.at < float("inf"), message="it is put off")
    slow.may_end.set()
    with pytest.raises(SoftTimeLimitExceeded):
        working.result(20)
    assert slow.written == ["all of it"]


def test_each_thread_has_its_own():
    clock = Clock()
    ringing = threading.Thread(target=clock.run)
    ringing.start()

    def work(seconds: float) -> float:
        began = time.monotonic()
        try:
            with ThreadTimer(clock).limit(seconds, SoftTimeLimitExceeded):
                while True:
                    time.sleep(0.001)
        except SoftTimeLimitExceeded:
            return time.monotonic() - began

    limits = [0.1, 0.9, 0.5, 0.3]
    with ThreadPoolExecutor(len(limits)) as threads:
        took = list(threads.map(work, limits))
    clock.stop()
    ringing.join()
    assert sorted(took) == [took[0], took[3], took[2], took[1]]
    assert all(a >= b for a, b in zip(took, limits, strict=True))
