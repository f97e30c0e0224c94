"""What a slot says without a word, read by another process at any moment."""

from __future__ import annotations

import os
import signal
import typing as t
from contextlib import contextmanager

import pytest

from flask_taskqueue.broker.wire import Argument, Lease
from flask_taskqueue.worker import board as module
from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.pace import MOST

from .servers import eventually

LONGEST_ID = 1000
"""Characters of an id that a claim takes."""

LONGEST_QUEUE = 200
LONGEST_WORKER = 130


def leases(call: int, count: int, queue: str = "q") -> list[Lease]:
    """What a claim got; each says of which call it is."""
    return [Lease(queue, f"{call}-{n}", f"w.1.{call}{n}") for n in range(count)]


def end(call: int, number: int) -> list[Argument]:
    return [f"{call}-{number}", "q", f"w.1.{call}{number}", "finished", 0, 0, 0]


@contextmanager
def writing(work: t.Callable[[], None]) -> t.Iterator[int]:
    """A process that writes, again and again, until it is killed."""
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


def test_a_claim_and_what_became_of_it():
    board = Board()
    assert board.read().leases == ()
    assert board.read().lease is None

    got = leases(3, 3)
    board.claimed(3, got)
    seen = board.read()
    assert (seen.calls, seen.leases, seen.ahead) == (3, tuple(got), tuple(got))
    assert (seen.lease, seen.begun, seen.kept) == (None, 0, 0.0)

    board.begin(0, 20.0)
    seen = board.read()
    assert (seen.lease, seen.ahead) == (got[0], tuple(got[1:]))
    assert seen.deadline == pytest.approx(seen.started + 20.0)

    board.returned(0)
    seen = board.read()
    assert (seen.lease, seen.started, seen.deadline) == (got[0], 0.0, 0.0)

    assert board.keep(end(3, 0))
    seen = board.read()
    assert seen.lease is None
    assert seen.kept > 0
    board.begin(1, None)
    assert board.keep(end(3, 1))
    assert board.read().kept == seen.kept, "of the first"
    assert board.ends() == [end(3, 0), end(3, 1)]

    board.claimed(4, leases(4, 1))
    assert board.ends() == []
    assert board.read().kept == 0.0


def test_ends_that_were_sent_stay_until_somebody_confirms_them():
    board = Board()
    board.claimed(1, leases(1, 2))
    board.keep(end(1, 0))
    board.keep(end(1, 1))
    board.claimed(2, leases(2, 2), sent=True)
    board.begin(0, None)
    board.keep(end(2, 0))
    seen = board.read()
    assert (seen.leases, seen.sent) == (tuple(leases(2, 2)), tuple(leases(1, 2)))
    assert board.ends() == [end(1, 0), end(1, 1), end(2, 0)]

    board.begin(1, 5.0)
    before = board.read()
    board.confirmed()
    seen = board.read()
    assert seen.sent == ()
    assert board.ends() == [end(2, 0)]
    assert (seen.lease, seen.started) == (before.lease, before.started)
    assert seen.deadline == before.deadline

    board.keep(end(2, 1))
    board.claimed(3, leases(3, 1), sent=True)
    assert board.ends() == [end(2, 0), end(2, 1)]
    board.claimed(4, (), sent=False)
    seen = board.read()
    assert (seen.leases, seen.sent, board.ends()) == ((), (), [])


def test_many_claims_in_turn_never_show_another_ones():
    board = Board()
    for call in range(1, 60):
        is_sent = call % 3 > 0
        board.claimed(call, leases(call, call % 5), sent=is_sent)
        expected = leases(call - 1, (call - 1) % 5) if is_sent else []
        seen = board.read()
        assert seen.leases == tuple(leases(call, call % 5))
        assert seen.sent == tuple(expected)
        for number in range(call % 5):
            board.keep(end(call, number))


def test_the_counters_and_the_connection():
    board = Board()
    assert board.client_id == 0
    board.connected(2**40)
    board.count(True, 0.25)
    board.count(True, 0.5)
    board.count(False, 1.0)
    seen = board.read()
    assert (seen.succeeded, seen.failed, seen.worked) == (2, 1, 1.75)
    assert board.client_id == 2**40


def test_what_the_supervisor_says():
    board = Board()
    assert (board.stopping, board.taken_back) == (False, 0)
    board.stamp(stopping=True)
    board.take_back(7)
    assert (board.stopping, board.taken_back) == (True, 7)
    board.stamp()
    assert (board.stopping, board.taken_back) == (False, 7)
    assert board.stamp_age < 5


@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f40d"])
def test_as_many_leases_as_a_claim_gets_of_the_longest_names(letter: str):
    board = Board()
    queue, worker = letter * LONGEST_QUEUE, "w" * LONGEST_WORKER
    longest = [
        Lease(queue, f"{n:x}" * LONGEST_ID, f"{worker}.1000000.{10**9 + n}")
        for n in range(MOST)
    ]
    board.claimed(1, longest)
    assert board.keep(end(1, 0))
    board.claimed(2, longest, sent=True)
    assert board.keep(end(2, 0))
    seen = board.read()
    assert seen.leases == seen.sent == tuple(longest)
    assert board.ends() == [end(1, 0), end(2, 0)]


def test_an_end_holds_what_a_script_takes():
    board = Board()
    board.claimed(1, leases(1, 1))
    row: list[Argument] = ["ä\U0001f40d", b"\x00\xff\n", -1, 0.1, "", b"", "a\0b\nc"]
    assert board.keep(row)
    assert board.ends() == [row]


def test_ends_that_are_too_large_are_not_kept_and_others_still_are():
    board = Board()
    board.claimed(1, leases(1, 4))
    most = module._ENDS_MOST
    assert board.keep(end(1, 0))
    assert not board.keep([b"x" * 10 * 2**20])
    assert not board.keep([b"x" * (most - 10)])
    assert board.keep([b"x" * (most // 2)])
    assert not board.keep([b"x" * (most // 2)])
    assert board.keep(end(1, 3))
    assert board.ends() == [end(1, 0), [b"x" * (most // 2)], end(1, 3)]
    board.claimed(2, leases(2, 1), sent=True)
    assert board.keep([b"y" * (most // 2)]), "each claim has room of its own"


@pytest.mark.parametrize("cpus", ["one CPU", "any CPU"])
def test_a_reader_beside_a_writer_that_never_stops_sees_no_mixture(cpus: str):
    """Each write is of one call, and says so in all its parts."""
    board = Board()
    board.claimed(0, leases(0, 1))
    counted = [0]
    mine = os.sched_getaffinity(0)

    def write() -> None:
        call = counted[0] = counted[0] + 1
        count = call % 4 + 1
        board.claimed(call, leases(call, count), sent=call % 2 > 0)
        for number in range(count):
            board.begin(number, float(call))
            board.returned(number)
            board.keep(end(call, number))

    try:
        if cpus == "one CPU":
            # Preempted in mid-write, it goes on only when the reader has read.
            os.sched_setaffinity(0, {min(mine)})
        with writing(write):
            calls = set()
            while len(calls) < 50:
                seen = board.read()
                calls.add(seen.calls)
                count = seen.calls % 4 + 1
                assert seen.leases == tuple(leases(seen.calls, count))
                assert seen.at < seen.begun <= count
                before = seen.calls - 1
                if seen.sent:
                    assert seen.sent == tuple(leases(before, before % 4 + 1))
                if seen.started:
                    assert seen.deadline == pytest.approx(seen.started + seen.calls)
                assert_whole(board.ends())
    finally:
        os.sched_setaffinity(0, mine)


def assert_whole(ends: list[list[Argument]]) -> None:
    """All ends of one call, or of one and the first of the next."""
    calls = [str(row[0]).partition("-")[0] for row in ends]
    numbers = [int(call) for call in calls]
    assert numbers == sorted(numbers)
    for call in set(numbers):
        found = [row for row in ends if row[0] in {f"{call}-{n}" for n in range(4)}]
        assert found == [end(call, n) for n in range(len(found))]
    if len(set(numbers)) == 2:
        first, second = sorted(set(numbers))
        assert second == first + 1
        assert numbers.count(first) == first % 4 + 1


def test_what_a_writer_left_half_written_has_not_happened(
    monkeypatch: pytest.MonkeyPatch,
):
    """Killed at any moment of a word, it leaves the words before that."""
    board = Board()
    board.claimed(1, leases(1, 2))
    board.begin(0, 60.0)
    board.keep(end(1, 0))
    before, ends = board.read(), board.ends()

    class Deadly:
        """The last step of a write."""

        def __setitem__(self, at: int, value: int) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    words = [
        lambda: board.claimed(2, leases(2, 16), sent=True),
        lambda: board.claimed(2, leases(2, 16)),
        lambda: board.begin(1, 1.0),
        lambda: board.returned(0),
        lambda: board.keep([b"another"]),
    ]
    for word in words:
        with monkeypatch.context() as patched:
            patched.setattr(board, "_state", Deadly())
            pid = os.fork()
            if pid == 0:
                word()
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert board.read() == before
        assert board.ends() == ends


def test_a_writer_that_is_stopped_can_be_read(monkeypatch: pytest.MonkeyPatch):
    board = Board()

    def write() -> None:
        for call in range(1000):
            board.claimed(call, leases(call, 3))
            board.begin(0, None)

    with writing(write) as pid:
        eventually(lambda: board.read().leases)
        for _ in range(50):
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            seen = board.read()
            assert seen.leases == tuple(leases(seen.calls, 3))
            os.kill(pid, signal.SIGCONT)


def test_it_can_be_read_by_its_descriptor_and_when_that_is_closed():
    board = Board()
    board.claimed(5, leases(5, 2))
    board.begin(1, None)
    again = Board(os.dup(board.descriptor))
    assert again.read() == board.read()
    again.stamp(stopping=True)
    assert board.stopping
    again.close()
    board.close()
    board.close()
    assert again.read() == board.read()
