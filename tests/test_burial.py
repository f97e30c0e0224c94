"""What becomes of the jobs of a slot that is dead: one that had ended, one that ran,
some that it had claimed, and some that were on their way to it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis
from redis.exceptions import ConnectionError

from flask_taskqueue.broker import scripts
from flask_taskqueue.worker.burial import Burials

from .played import Slot, of_all, put, waiting
from .running import InProcess
from .servers import Server

Client = t.Any

JOBS = "abcdefghijkl"
"""``a`` has ended, ``b`` runs, ``l`` is nobody's."""


class Death:
    """Two slots that are dead: how they are buried."""

    def __init__(self, url: str, client: Client, **given: t.Any) -> None:
        self.client = client
        put(client, *JOBS, **given)
        self.slot, self.other = Slot(client, "1"), Slot(client, "2")
        self.slot.claim(4)
        self.slot.ask(4)
        self.slot.begin(0)
        self.slot.end(0)
        self.slot.begin(1)
        self.other.claim(3)
        self.other.begin(0)
        self.slots = [self.slot, self.other]
        app = InProcess(__name__, url, client)
        with app.app.app_context():
            self.burials = Burials(app.tq.state, client, ("q",))

    def assert_first_end_is_stored(self) -> None:
        assert of_all(self.client, "status", "a") == ["finished"]
        assert self.client.xlen("rq:results:a") == 1

    def charged(self) -> dict[str, str]:
        counts = of_all(self.client, "tq_recoveries", JOBS)
        return {job: count for job, count in zip(JOBS, counts, strict=True) if count}

    def close(self) -> None:
        for slot in self.slots:
            slot.close()


@pytest.fixture
def death(redis_url: str, client: Client) -> Iterator[Death]:
    death = Death(redis_url, client)
    yield death
    death.close()


def test_by_itself_what_ran_is_charged_and_is_the_next(death: Death):
    for _ in range(2):
        death.burials.recover([death.slot.seat], "killed by signal 9 (SIGKILL)")
        death.burials.work_off()
    assert waiting(death.client) == [*"bcdefgh", "l"]
    assert death.charged() == {"b": "1"}
    death.assert_first_end_is_stored()
    assert of_all(death.client, "status", "i") == ["started"], "it is another slot's"


def test_with_several_slots_each_is_charged_what_it_ran(death: Death):
    seats = [slot.seat for slot in death.slots]
    death.burials.recover(seats, "exit status 1")
    death.burials.work_off()
    assert sorted(waiting(death.client)) == [*"bcdefghijkl"]
    assert death.charged() == {"b": "1", "i": "1"}


def test_between_two_jobs_nothing_is_charged(death: Death):
    death.slot.end(1)
    death.burials.recover([death.slot.seat], "exit status 1")
    death.burials.work_off()
    assert waiting(death.client) == [*"cdefgh", "l"]
    assert death.charged() == {}
    assert of_all(death.client, "status", "ab") == ["finished"] * 2


def test_at_a_stop_all_goes_back_in_order_and_nothing_is_charged(death: Death):
    count = death.burials.give_back([slot.seat for slot in death.slots])
    assert count == 6, "of those that it knows"
    death.burials.work_off()
    found = waiting(death.client)
    # What ran is first; the rest as each slot claimed it.
    assert set(found[:2]) == {"b", "i"}
    assert found[2:] == [*"cdefghjk", "l"]
    assert death.charged() == {}
    death.assert_first_end_is_stored()


@pytest.mark.parametrize(
    ("bury", "status"),
    [
        (Burials.end_overdue, "failed"),
        (Burials.end_terminated, "stopped"),
        (Burials.end_killed, "failed"),
    ],
)
def test_killed_for_what_it_ran_the_others_go_back_in_order(
    death: Death, bury: Callable[..., None], status: str
):
    bury(death.burials, death.slot.seat)
    death.burials.work_off()
    assert of_all(death.client, "status", "ab") == ["finished", status]
    assert waiting(death.client) == [*"cdefgh", "l"]
    assert death.charged() == {}


def test_for_a_lost_lease_the_others_go_back_in_order(death: Death):
    lease = death.slot.leases[1]
    death.client.zrem("rq:wip:q", f"{lease.id}:{lease.execution}")
    death.burials.release_rest([death.slot.seat])
    death.burials.work_off()
    assert waiting(death.client) == [*"cdefgh", "l"]
    assert death.charged() == {}


def test_ends_that_were_on_their_way_are_stored(death: Death):
    slot = death.slot
    slot.end(1)
    for at in (2, 3):
        slot.begin(at)
        slot.end(at)
    asked = scripts.held(death.client, slot.place.prefix, ("q",))
    assert len(asked) == 8, "the ends are not stored yet"
    slot.board.right.take()
    slot.hear(sorted(asked, key=lambda lease: lease.id)[4:], sent=True, ahead=True)
    slot.begin(0)
    slot.end(0)
    slot.begin(1)
    death.burials.recover([slot.seat], "killed by signal 9 (SIGKILL)")
    death.burials.work_off()
    assert of_all(death.client, "status", "abcde") == ["finished"] * 5
    assert waiting(death.client) == [*"fgh", "l"]
    assert death.charged() == {"f": "1"}


def test_what_is_due_is_done_when_redis_is_there(own_server: Server):
    with (
        redis.Redis.from_url(own_server.url, retry=None) as client,
        closing(Death(own_server.url, client)) as death,
    ):
        death.burials.recover([death.slot.seat], "killed by signal 9 (SIGKILL)")
        client.connection_pool.disconnect()
        own_server.stop()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                death.burials.work_off()
        assert death.burials.holding
        own_server.start()
        death.burials.work_off()
        assert waiting(client) == [*"bcdefgh", "l"]
        assert death.charged() == {"b": "1"}
        death.assert_first_end_is_stored()
        assert not death.burials.holding


def test_what_cannot_be_stored_keeps_no_other_from_its_place(death: Death):
    death.client.set("rq:finished:q", "something else")
    death.burials.recover([death.slot.seat], "killed by signal 9 (SIGKILL)")
    death.burials.work_off()
    assert waiting(death.client) == [*"bcdefgh", "l"]
    assert death.charged() == {"b": "1"}
