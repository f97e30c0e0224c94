"""What a supervisor does for slots that claimed more than they get to."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ConnectionError

from flask_taskqueue.broker import scripts
from flask_taskqueue.worker import board, overrun
from flask_taskqueue.worker.line import WAKE
from flask_taskqueue.worker.overrun import AHEAD_MOST, KEPT_MOST, Overruns

from .played import Slot, of_all, put, row, waiting
from .servers import Server

Client = t.Any


class Clock:
    """The clock that boards and looks read: no test waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (board, overrun):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def commands(client: Client) -> int:
    """How many the server has run."""
    return int(client.info("stats")["total_commands_processed"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def slots(client: Client, clock: Clock) -> Iterator[t.Callable[..., Slot]]:
    """Makes slots."""
    made = []

    def make(label: str = "1") -> Slot:
        made.append(Slot(client, label))
        return made[-1]

    yield make
    for slot in made:
        slot.close()


@pytest.fixture
def slot(slots: t.Callable[..., Slot]) -> Slot:
    return slots()


@pytest.fixture
def overruns(client: Client) -> Overruns:
    return Overruns(client, ("q",))


def test_a_slot_that_is_in_time_is_left_alone(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcd")
    assert slot.claim() == ["a", "b", "c", "d"]
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(min(KEPT_MOST, AHEAD_MOST) - 0.001)
    before = commands(client)
    for _ in range(3):
        assert overruns.look([slot.seat]) == {slot.seat}
    assert commands(client) == before + 1, "that of the first count"
    assert of_all(client, "status", "abcd") == ["started"] * 4
    assert slot.begin(2)
    assert slot.heard() == b""


def test_who_has_claimed_one_is_looked_after_no_more(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, "a")
    slot.claim()
    slot.begin(0)
    clock.pass_by(60)
    assert overruns.look([slot.seat]) == set()


def test_ends_that_are_kept_too_long_are_stored(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcd")
    slot.claim()
    for at in (0, 1):
        slot.begin(at)
        slot.end(at)
    slot.begin(2)
    clock.pass_by(KEPT_MOST + 0.001)
    overruns.look([slot.seat])
    assert of_all(client, "status", "abcd") == [
        "finished", "finished", "started", "started",
    ]  # fmt: skip
    assert waiting(client) == []
    before = commands(client)
    overruns.look([slot.seat])
    assert commands(client) == before + 1, "nothing is stored again"

    # The slot does so itself later, which changes nothing.
    slot.end(2)
    overruns.look([slot.seat])
    assert of_all(client, "status", "abcd")[2] == "finished"
    codes, _ = scripts.finish_rows(client, slot.board.ends(), None)
    assert codes == [scripts.STORED_BEFORE] * 3
    assert [client.xlen(f"rq:results:{job_id}") for job_id in "abc"] == [1, 1, 1]


def test_ends_that_were_sent_before_are_stored_too(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """They may never have come."""
    put(client, *"abcd")
    slot.claim(2)
    for at in (0, 1):
        slot.begin(at)
        slot.end(at)
    slot.claim(2, sent=True)
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(KEPT_MOST + 0.001)
    overruns.look([slot.seat])
    assert of_all(client, "status", "abcd") == ["finished"] * 3 + ["started"]


def test_what_a_slot_does_not_get_to_goes_back_in_order(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcdefg")
    slot.claim(5)
    slot.begin(0)
    slot.end(0)
    clock.pass_by(0.002)
    slot.begin(1)
    clock.pass_by(AHEAD_MOST + 0.5)
    assert overruns.look([slot.seat]) == {slot.seat}
    assert waiting(client) == ["c", "d", "e", "f", "g"]
    assert of_all(client, "status", "abcde") == [
        "finished", "started", "queued", "queued", "queued",
    ]  # fmt: skip
    assert of_all(client, "tq_recoveries", "abcde") == [""] * 5
    assert slot.heard() == WAKE
    assert slot.board.taken_back == slot.board.read().calls

    # The one that runs is written as started, when it was.
    started = of_all(client, "started_at", "b")[0]
    heartbeat = of_all(client, "last_heartbeat", "b")[0]
    assert "" < started < heartbeat
    assert of_all(client, "started_at", "cde") == [""] * 3
    assert not slot.begin(2)


def test_further_looks_change_nothing(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcd")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(1.0)
    overruns.look([slot.seat])
    keys = {key: client.dump(key) for key in client.keys()}
    heard = slot.heard()
    before = commands(client)
    for _ in range(5):
        clock.pass_by(1.0)
        assert overruns.look([slot.seat]) == {slot.seat}
    assert commands(client) == before + 1
    assert {key: client.dump(key) for key in client.keys()} == keys
    assert (heard, slot.heard()) == (WAKE, b"")


def test_the_last_of_a_claim_is_written_as_started_too(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, "a", "b")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(AHEAD_MOST + 0.001)
    overruns.look([slot.seat])
    assert all(of_all(client, "started_at", "ab"))
    assert slot.heard() == b"", "nothing was taken"


def test_a_slot_between_two_jobs_loses_those_it_has_not_begun(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abc")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    clock.pass_by(AHEAD_MOST + 0.001)
    overruns.look([slot.seat])
    assert waiting(client) == ["b", "c"]
    assert of_all(client, "started_at", "bc") == ["", ""]


def test_one_that_was_begun_just_now_is_not_taken(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """The token was the slot's, whatever its board says yet."""
    put(client, *"abcd")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    clock.pass_by(1.0)
    assert slot.board.tokens.take()
    overruns.look([slot.seat])
    assert waiting(client) == ["c", "d"]
    slot.board.begin(1, None)
    overruns.look([slot.seat])
    assert of_all(client, "status", "ab") == ["finished", "started"]


def test_a_claim_that_is_not_told_of_yet_cannot_be_taken_from(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """The tokens come last: before that nothing happens, however long it takes."""
    put(client, *"abc")
    slot.claim()
    left = slot.board.tokens.take_all()
    clock.pass_by(1.0)
    overruns.look([slot.seat])
    assert waiting(client) == []
    slot.board.tokens.add(left)
    overruns.look([slot.seat])
    assert waiting(client) == ["b", "c"]


def test_what_several_slots_claimed_goes_back_in_the_order_of_their_claims(
    client: Client,
    slots: t.Callable[..., Slot],
    overruns: Overruns,
    clock: Clock,
):
    put(client, *"abcdefghijkl", "last")
    made = [slots(str(n)) for n in range(4)]
    for slot in made:
        slot.claim(3)
        slot.begin(0)
        clock.pass_by(0.001)
    clock.pass_by(1.0)
    overruns.look({slot.seat for slot in reversed(made)})
    assert waiting(client) == ["b", "c", "e", "f", "h", "i", "k", "l", "last"]


def test_a_job_given_back_runs_elsewhere_and_its_old_claim_is_refused(
    client: Client,
    slots: t.Callable[..., Slot],
    overruns: Overruns,
    clock: Clock,
):
    put(client, *"abc")
    slow, quick = slots("1"), slots("2")
    slow.claim()
    slow.begin(0)
    clock.pass_by(1.0)
    overruns.look([slow.seat])
    assert quick.claim() == ["b", "c"]
    assert not slow.begin(1)
    codes, _ = scripts.finish_rows(client, [row(slow.leases[1])], None)
    assert codes == [scripts.REFUSED]
    codes, _ = scripts.finish_rows(client, [row(quick.leases[0])], None)
    assert codes == [scripts.STORED]


def test_one_that_is_recalled_is_ended_if_it_was_revoked(
    client: Client, slot: Slot, overruns: Overruns
):
    put(client, *"abcd")
    slot.claim()
    slot.begin(0)
    scripts.revoke(client, "c", terminate=True)
    overruns.recall([slot.seat], "a")
    assert slot.heard() == b"", "it is begun"
    overruns.recall([slot.seat], "c")
    overruns.look([slot.seat])
    assert of_all(client, "status", "abcd") == [
        "started", "queued", "canceled", "queued",
    ]  # fmt: skip
    assert waiting(client) == ["b", "d"]
    assert not slot.begin(1)


def test_what_is_on_its_way_goes_back_behind_what_is_at_hand(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcdefgh")
    slot.claim(3)
    assert [lease.id for lease in slot.ask(3)] == ["d", "e", "f"]
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(AHEAD_MOST + 0.001)
    overruns.look([slot.seat])
    assert waiting(client) == ["c", "d", "e", "f", "g", "h"]
    assert of_all(client, "tq_recoveries", "cdef") == [""] * 4
    assert slot.board.intercepted == slot.board.read().asked_last
    assert not slot.board.right.take(), "they are not the slot's any more"
    before = commands(client)
    for _ in range(3):
        clock.pass_by(1.0)
        overruns.look([slot.seat])
    assert commands(client) == before + 1


def test_what_was_asked_for_just_now_is_the_slots(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    put(client, *"abcd")
    slot.claim(1)
    slot.ask(3)
    slot.begin(0)
    clock.pass_by(AHEAD_MOST - 0.001)
    assert overruns.look([slot.seat]) == {slot.seat}
    assert waiting(client) == []
    assert slot.board.right.take()


def test_what_the_slot_has_heard_of_is_not_taken_on_its_way(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """The right was the slot's, whatever its board says yet."""
    put(client, *"abcd")
    slot.claim(1)
    answer = slot.ask(3)
    slot.begin(0)
    clock.pass_by(1.0)
    assert slot.board.right.take()
    overruns.look([slot.seat])
    assert waiting(client) == []
    assert slot.board.intercepted == 0
    slot.hear(answer, ahead=True)
    assert slot.begin(0)


def test_a_single_job_claimed_while_others_ran_is_written_as_started(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """Or nobody would be charged for it, however long it runs."""
    put(client, "a", "b")
    slot.claim(1)
    answer = slot.ask(16)
    slot.begin(0)
    slot.end(0)
    assert slot.board.right.take()
    slot.hear(answer, sent=True, ahead=True)
    slot.begin(0)
    assert of_all(client, "started_at", "b") == [""]
    assert overruns.look([slot.seat]) == {slot.seat}
    clock.pass_by(AHEAD_MOST + 0.001)
    overruns.look([slot.seat])
    assert of_all(client, "started_at", "b") != [""]
    assert of_all(client, "status", "a") == ["finished"]


@pytest.fixture
def flaky(own_server: Server, clock: Clock) -> Iterator[tuple[Server, Client, Slot]]:
    """A server, a client that tries nothing twice, and a slot."""
    with redis.Redis.from_url(own_server.url, retry=None) as client:
        slot = Slot(client)
        yield own_server, client, slot
        slot.close()


def test_what_was_taken_while_redis_was_away_goes_back_when_it_is_there(
    flaky: tuple[Server, Client, Slot], clock: Clock
):
    server, client, slot = flaky
    overruns = Overruns(client, ("q",))
    put(client, *"abcde")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    clock.pass_by(1.0)
    server.stop()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            overruns.look([slot.seat])
    server.start()
    assert overruns.look([slot.seat]) == {slot.seat}
    assert of_all(client, "status", "abcde") == [
        "finished", "started", "queued", "queued", "queued",
    ]  # fmt: skip
    assert waiting(client) == ["c", "d", "e"]
    assert of_all(client, "started_at", "b") != [""]
    assert of_all(client, "tq_recoveries", "abcde") == [""] * 5


def test_what_was_taken_goes_back_although_its_slot_is_gone(
    flaky: tuple[Server, Client, Slot], clock: Clock
):
    server, client, slot = flaky
    overruns = Overruns(client, ("q",))
    put(client, *"abc")
    slot.claim()
    slot.begin(0)
    clock.pass_by(1.0)
    client.connection_pool.disconnect()
    server.stop()
    with pytest.raises(ConnectionError):
        overruns.look([slot.seat])
    server.start()
    assert overruns.look([]) == set()
    assert waiting(client) == ["b", "c"]


def test_what_is_on_its_way_while_redis_is_away(
    flaky: tuple[Server, Client, Slot], clock: Clock
):
    server, client, slot = flaky
    overruns = Overruns(client, ("q",))
    put(client, *"abcde")
    slot.claim(2)
    slot.ask(2)
    slot.begin(0)
    clock.pass_by(1.0)
    server.stop()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            overruns.look([slot.seat])
    server.start()
    overruns.look([slot.seat])
    assert waiting(client) == ["b", "c", "d", "e"]


def test_a_key_of_another_type_keeps_nothing_else_out(
    client: Client, slot: Slot, overruns: Overruns, clock: Clock
):
    """Of the queue's registry: no end can be stored as it should be."""
    put(client, *"abcd")
    slot.claim()
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    client.set("rq:finished:q", "something else")
    clock.pass_by(1.0)
    for _ in range(3):
        overruns.look([slot.seat])
    assert waiting(client) == ["c", "d"]
    assert of_all(client, "status", "a") == ["finished"]
