"""Coroutines run to their end, and what a soft limit does to one that awaits."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import traceback
import typing as t
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from flask_taskqueue import _rq, coroutines
from flask_taskqueue.coroutines import interrupt, run
from flask_taskqueue.errors import SoftTimeLimitExceeded
from flask_taskqueue.worker.alarms import Clock, ThreadTimer
from flask_taskqueue.worker.limits import AlarmTimer, Timer

Function = Callable[[], Coroutine[t.Any, t.Any, t.Any]]


@contextmanager
def in_the_main_thread() -> Iterator[Timer]:
    before = signal.getsignal(signal.SIGALRM)
    yield AlarmTimer()
    signal.signal(signal.SIGALRM, before)


@contextmanager
def in_any_thread() -> Iterator[Timer]:
    clock = Clock()
    thread = threading.Thread(target=clock.run)
    thread.start()
    yield ThreadTimer(clock)
    clock.stop()
    thread.join()


@pytest.fixture(params=[in_the_main_thread, in_any_thread], ids=["alarm", "thread"])
def timer(request: pytest.FixtureRequest) -> Iterator[Timer]:
    with request.param() as timer:
        yield timer


BY_SIGNAL = pytest.mark.parametrize(
    "timer", [in_the_main_thread], indirect=True, ids=["alarm"]
)


def limited(
    timer: Timer,
    function: Function,
    kind: type[Exception] = SoftTimeLimitExceeded,
) -> t.Any:
    begun = time.monotonic()
    try:
        with timer.limit(0.1, kind):
            return run(function())
    finally:
        assert time.monotonic() - begun < 5


def test_a_coroutine_is_run_to_its_end():
    async def add(x: int, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    assert run(add(1, 2)) == 3


def test_what_a_coroutine_raises_is_raised():
    async def fail(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    for error in (KeyError("x"), asyncio.CancelledError("own"), SystemExit(3)):
        with pytest.raises(type(error)) as caught:
            run(fail(error))
        assert caught.value.args == error.args


def test_where_coroutines_are_refused_the_reason_is_raised(
    monkeypatch: pytest.MonkeyPatch,
):
    async def work() -> None: ...

    monkeypatch.setattr(coroutines, "_refused", [])
    coroutines.refuse("not in this pool")
    assert coroutines.finished("a plain value") == "a plain value"
    with pytest.raises(RuntimeError, match="not in this pool"):
        coroutines.finished(work())


def test_inside_a_loop_it_runs_beside_it_in_the_same_context():
    seen: ContextVar[str] = ContextVar("seen")

    async def inner() -> list[object]:
        await asyncio.sleep(0)
        return [seen.get(), threading.current_thread() is outside]

    async def fail() -> None:
        raise KeyError("x")

    async def outer() -> list[object]:
        seen.set("here")
        with pytest.raises(KeyError, match="x"):
            run(fail())
        return t.cast("list[object]", run(inner()))

    outside = threading.current_thread()
    assert run(outer()) == ["here", False]


@BY_SIGNAL
def test_a_limit_ends_a_coroutine_beside_a_loop(timer: Timer):
    ended = []

    async def inner() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("inner")

    async def outer() -> None:
        run(inner())

    with pytest.raises(SoftTimeLimitExceeded):
        limited(timer, outer)
    assert ended == ["inner"]


async def sleeps() -> None:
    await asyncio.sleep(60)


async def awaits_another() -> None:
    await sleeps()


async def awaits_a_future() -> None:
    await asyncio.get_running_loop().create_future()


async def awaits_a_task() -> None:
    await asyncio.create_task(sleeps())


async def gathers() -> None:
    await asyncio.gather(sleeps(), sleeps())


async def waits_for() -> None:
    await asyncio.wait_for(sleeps(), 60)


async def is_in_a_timeout() -> None:
    async with asyncio.timeout(60):
        await sleeps()


async def iterates() -> None:
    async def numbers() -> t.AsyncIterator[int]:
        await sleeps()
        yield 1

    async for _ in numbers():
        pass


async def blocks() -> None:
    time.sleep(60)


async def computes() -> None:
    while True:
        pass


async def yields_all_the_time() -> None:
    while True:
        await asyncio.sleep(0)


async def lets_a_task_compute() -> None:
    await asyncio.create_task(yields_all_the_time())


async def lets_a_callback_compute() -> None:
    loop = asyncio.get_running_loop()

    def spin() -> None:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        loop.call_soon(spin)

    loop.call_soon(spin)
    await loop.create_future()


async def awaits_one_that_refuses_to_stop() -> None:
    async def refuse() -> str:
        try:
            await sleeps()
        except asyncio.CancelledError:
            return "no"
        return "slept"

    await asyncio.create_task(refuse())


async def awaits_one_that_fails_to_stop() -> None:
    async def fail() -> None:
        try:
            await sleeps()
        finally:
            raise KeyError("clean-up")

    await asyncio.create_task(fail())


PLACES: list[Function] = [
    sleeps, awaits_another, awaits_a_future, awaits_a_task, gathers, waits_for,
    is_in_a_timeout, iterates, blocks, computes, yields_all_the_time,
    lets_a_task_compute, lets_a_callback_compute, awaits_one_that_refuses_to_stop,
    awaits_one_that_fails_to_stop,
]  # fmt: skip

# From another thread what blocks in C cannot be interrupted.
EVERY_PLACE = pytest.mark.parametrize(
    ("timer", "place"),
    [(in_the_main_thread, place) for place in PLACES]
    + [(in_any_thread, place) for place in PLACES if place is not blocks],
    indirect=["timer"],
    ids=lambda value: value.__name__,
)


@EVERY_PLACE
def test_a_soft_limit_can_be_caught_where_it_waits(timer: Timer, place: Function):
    async def careful() -> str:
        try:
            await place()
        except SoftTimeLimitExceeded as error:
            said = str(error)
        # It goes on as if nothing had been cancelled.
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sleeps()
        return said

    assert limited(timer, careful) == "the soft time limit is over"


@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, _rq.JobTimeoutException])
@EVERY_PLACE
def test_a_soft_limit_that_is_not_caught_is_raised(
    timer: Timer, place: Function, kind: type[Exception]
):
    cleaned = []

    async def careless() -> None:
        try:
            await place()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(kind) as caught:
        limited(timer, careless, kind)
    assert type(caught.value) is kind
    assert cleaned == ["up"]
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert place.__name__ in frames


def test_what_it_raises_instead_counts(timer: Timer):
    async def gives_up() -> None:
        try:
            await sleeps()
        except SoftTimeLimitExceeded as error:
            raise ValueError("too slow") from error

    with pytest.raises(ValueError, match="too slow") as caught:
        limited(timer, gives_up)
    assert isinstance(caught.value.__cause__, SoftTimeLimitExceeded)


def test_a_task_group_stops_its_tasks(timer: Timer):
    ended: list[str] = []

    async def member() -> None:
        try:
            await sleeps()
        except asyncio.CancelledError:
            ended.append("stopped")
            raise

    async def group() -> str:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(member())
                tasks.create_task(member())
        except SoftTimeLimitExceeded:
            return f"caught after {ended}"
        return "never"

    assert limited(timer, group) == "caught after ['stopped', 'stopped']"


def test_a_lock_it_waited_for_is_free_for_others(timer: Timer):
    async def locks() -> str:
        lock = asyncio.Lock()
        await lock.acquire()
        with pytest.raises(SoftTimeLimitExceeded):
            await lock.acquire()
        lock.release()
        await asyncio.wait_for(lock.acquire(), 1)
        return "locked"

    assert limited(timer, locks) == "locked"


def test_a_limit_that_is_kept_does_nothing(timer: Timer):
    async def quick() -> str:
        await asyncio.sleep(0.01)
        return "in time"

    assert limited(timer, quick) == "in time"
    assert run(asyncio.sleep(0.15, "after")) == "after"


@BY_SIGNAL
def test_a_limit_is_over_while_the_loop_cleans_up(timer: Timer):
    """The coroutine has ended; what it left behind has not."""

    async def lingers() -> None:
        while True:
            try:
                await sleeps()
            except asyncio.CancelledError:
                pass

    async def leaves_one() -> None:
        kept.append(asyncio.create_task(lingers()))
        await asyncio.sleep(0)

    kept: list[Awaitable[None]] = []
    with pytest.raises(SoftTimeLimitExceeded):
        limited(timer, leaves_one)
    kept.clear()


def test_where_no_coroutine_runs_nothing_is_interrupted():
    assert not interrupt(SoftTimeLimitExceeded("late"))
