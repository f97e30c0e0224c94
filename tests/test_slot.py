"""One slot that claims ahead, with the test as its supervisor."""

from __future__ import annotations

import random
import socket
import threading
import typing as t
from base64 import b64decode
from collections.abc import Callable, Iterator

import pytest

from flask_taskqueue import current_task
from flask_taskqueue.broker import scripts
from flask_taskqueue.worker import asking, overrun, pace
from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.loop import Slot
from flask_taskqueue.worker.overrun import Overruns
from flask_taskqueue.worker.pools import Seat
from flask_taskqueue.worker.wear import MEMORY, Lifetime, Wear

from .running import InProcess
from .servers import eventually

Client = t.Any

JOBS = 50
"""The first is claimed by itself: how long it takes is not known. Then 1 to 16, 17 to
32, 33 to 48, and the rest."""

WORKER = "w.1.abc"


class Stage:
    """A slot, its jobs, and what happens while one of them runs."""

    def __init__(self, url: str, client: Client) -> None:
        self.client = client
        self.ran: list[int] = []
        self.acts: dict[int, Callable[[], object]] = {}
        self.results: dict[int, t.Any] = {}
        self.runs = JOBS
        self.slot: Slot | None = None
        self.wear = Wear(Lifetime())
        ours, self._channel = socket.socketpair()
        self.place = Place(
            worker=WORKER, label="1", queues=("default",), board=Board(),
            channel=self._channel, wear=self.wear,
        )  # fmt: skip
        self.board = self.place.board
        self.seat = Seat(self.place, ours)
        self.overruns = Overruns(client, ("default",))
        site = InProcess(__name__, url, client)
        self.task = site.tq.task(self._work, name="work")
        self.app = site.app
        with self.app.app_context():
            self.state = site.tq.state

    def _work(self, number: int) -> t.Any:
        self.ran.append(number)
        if (act := self.acts.pop(number, None)) is not None:
            act()
        if len(self.ran) == self.runs:
            self.stop()
        return self.results.get(number, number * number)

    def stop(self) -> None:
        self.board.stamp(stopping=True)

    def enqueue(self, count: int = JOBS) -> None:
        with self.app.app_context():
            for number in range(count):
                self.task.apply_async((number,), task_id=f"j{number}")

    def perform(self) -> None:
        """Run the slot until it has run so many jobs, or is stopped."""
        if not self.client.exists("rq:queue:default"):
            self.enqueue()
        self.slot = Slot(self.state, self.place, NoTimer())
        self.slot.run()

    def look(self) -> None:
        """What the supervisor does every few milliseconds."""
        self.overruns.look([self.seat])

    def cut(self) -> None:
        """Close the slot's connection at the server, if it has one."""
        self.client.client_kill_filter(_id=self.board.client_id)

    def disconnect(self) -> None:
        """Drop it here, as after a limit that may have cut a reply in two."""
        assert self.slot is not None
        self.slot.line.disconnect()

    def flush_scripts(self) -> None:
        self.client.script_flush()

    def cut_and_flush(self) -> None:
        self.cut()
        self.flush_scripts()

    @property
    def waiting(self) -> list[int]:
        ids = self.client.lrange("rq:queue:default", 0, -1)
        return [int(job_id[1:]) for job_id in ids]

    @property
    def held(self) -> list[str]:
        """Leases there are."""
        return [
            member.decode() for member in self.client.zrange("rq:wip:default", 0, -1)
        ]

    def state_of(self, number: int) -> str:
        return str(self.client.hget(f"rq:job:j{number}", "status").decode())

    def assert_ended(self, numbers: t.Iterable[int] = range(JOBS)) -> None:
        """Each of these ended once and well, without a charge."""
        for number in numbers:
            assert self.state_of(number) == "finished", number
            ((_, entry),) = self.client.xrange(f"rq:results:j{number}")
            assert b64decode(entry[b"return_value"]) == str(number**2).encode()
            assert self.client.hget(f"rq:job:j{number}", "tq_recoveries") is None

    def close(self) -> None:
        self._channel.close()
        self.seat.close()


@pytest.fixture(params=["asks while jobs run", "asks after them"])
def stage(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    client: Client,
) -> Iterator[Stage]:
    monkeypatch.setattr(pace, "AHEAD", 1e9)
    monkeypatch.setattr(pace, "BRISK", 1e9 if "while" in request.param else -1)
    stage = Stage(redis_url, client)
    yield stage
    stage.close()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the supervisor looks at has waited too long."""
    monkeypatch.setattr(overrun, "AHEAD_MOST", -1)
    monkeypatch.setattr(overrun, "KEPT_MOST", -1)


def assert_all_once(stage: Stage) -> None:
    """In order, and nothing is left behind."""
    assert stage.ran == list(range(JOBS))
    stage.assert_ended()
    assert stage.held == []
    assert stage.waiting == []
    assert stage.board.tokens.take_all() == 0
    assert stage.board.right.take_all() == 0


def test_jobs_run_in_order(stage: Stage):
    stage.perform()
    assert_all_once(stage)


POSITIONS = [0, 1, 2, 9, 16, 17, 40, 48, 49]
"""The first, one in the middle and the last of several claims."""


@pytest.mark.parametrize(
    "act", [Stage.cut, Stage.disconnect, Stage.flush_scripts, Stage.cut_and_flush]
)
def test_a_connection_that_is_lost_costs_nothing(
    stage: Stage, act: Callable[[Stage], None]
):
    for at in POSITIONS:
        stage.acts[at] = lambda: act(stage)
    stage.perform()
    assert_all_once(stage)


def test_connections_that_are_lost_again_and_again_cost_nothing(stage: Stage):
    for at in range(0, JOBS, 2):
        stage.acts[at] = stage.cut_and_flush if at % 6 else stage.cut
    stage.perform()
    assert_all_once(stage)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("at", POSITIONS)
def test_what_is_taken_back_is_claimed_again_in_order(stage: Stage, at: int):
    seen: list[list[int]] = []

    def act() -> None:
        stage.look()
        stage.look()
        seen.append(stage.waiting)
        assert len(stage.held) == 1, "all but the one that runs are given back"
        stage.assert_ended(range(at))

    stage.acts[at] = act
    stage.perform()
    assert seen == [list(range(at + 1, JOBS))]
    assert_all_once(stage)


@pytest.mark.usefixtures("late")
def test_looks_at_every_job_keep_each_to_itself(stage: Stage):
    for at in range(JOBS):
        stage.acts[at] = stage.look
    stage.perform()
    assert_all_once(stage)


@pytest.mark.usefixtures("late")
def test_what_is_taken_back_while_the_connection_is_lost(stage: Stage):
    def act() -> None:
        stage.cut()
        stage.look()

    for at in POSITIONS:
        stage.acts[at] = act
    stage.perform()
    assert_all_once(stage)


@pytest.mark.usefixtures("late")
def test_what_is_taken_runs_elsewhere_and_not_here(stage: Stage):
    """Somebody claims it before the slot asks again."""
    other: list[str] = []

    def act() -> None:
        stage.look()
        wanted = scripts.Claim("other", "other.1.", 1, 10.0, ("default",), 16)
        other.extend(job.lease.id for job in scripts.claim(stage.client, wanted).jobs)

    stage.acts[5] = act
    stage.runs = JOBS - 16
    stage.perform()
    assert other == [f"j{n}" for n in range(6, 22)]
    assert stage.ran == [*range(6), *range(22, JOBS)]
    stage.assert_ended(stage.ran)
    assert len(stage.held) == 16


def test_a_slot_waits_for_the_word_that_jobs_were_taken(stage: Stage):
    """Or its supervisor could take the tokens of its next claim for those."""

    def act() -> None:
        taken.append(stage.board.tokens.take_all())
        threads.append(threading.Thread(target=supervise))
        threads[0].start()

    def supervise() -> None:
        # The slot stores what it kept before it waits.
        eventually(lambda: stage.state_of(3) == "finished")
        ran.append(list(stage.ran))
        seen = stage.board.read()
        scripts.release(stage.client, seen.leases[-taken[0] :], started=False)
        stage.board.take_back(seen.calls)
        stage.seat.wake()

    taken: list[int] = []
    ran: list[list[int]] = []
    threads: list[threading.Thread] = []
    stage.acts[3] = act
    stage.perform()
    threads[0].join()
    assert taken == [13]
    assert ran == [[0, 1, 2, 3]]
    assert stage.ran[:4] == [0, 1, 2, 3]
    assert sorted(stage.ran) == list(range(JOBS))
    stage.assert_ended()
    assert stage.held == []


def test_a_slot_waits_for_the_word_that_what_it_asked_for_was_taken(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """Or its supervisor could take what it asks for next for that."""
    monkeypatch.setattr(pace, "BRISK", 1e9)

    def act() -> None:
        assert stage.board.right.take()
        threads.append(threading.Thread(target=supervise))
        threads[0].start()

    def supervise() -> None:
        # The slot gives back what it hears of.
        eventually(lambda: stage.state_of(33) == "queued")
        ran.append(list(stage.ran))
        stage.board.intercept(stage.board.read().asked_last)
        stage.seat.wake()

    ran: list[list[int]] = []
    threads: list[threading.Thread] = []
    stage.acts[20] = act
    stage.perform()
    threads[0].join()
    assert ran == [list(range(33))]
    assert_all_once(stage)


@pytest.mark.parametrize("revoked", [12, 20, 32])
def test_one_that_was_terminated_before_it_began_does_not_begin(
    stage: Stage, revoked: int
):
    """Of those that are at hand, or on their way."""

    def act() -> None:
        scripts.revoke(stage.client, f"j{revoked}", terminate=True)
        stage.overruns.recall([stage.seat], f"j{revoked}")
        stage.look()

    stage.acts[9] = act
    stage.runs = JOBS - 1
    stage.perform()
    others = [number for number in range(JOBS) if number != revoked]
    assert stage.ran == others
    stage.assert_ended(others)
    assert stage.state_of(revoked) == "canceled"
    assert stage.held == []


def test_a_slot_ends_whose_supervisor_died_with_its_jobs_in_hand(stage: Stage):
    def act() -> None:
        stage.board.tokens.take_all()
        stage.seat.close()

    stage.acts[3] = act
    stage.perform()
    assert stage.ran == [0, 1, 2, 3]
    stage.assert_ended(stage.ran)
    assert len(stage.held) >= 13


def test_jobs_whose_lease_may_be_over_are_not_begun(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """The process was stopped, and goes on later."""

    def act() -> None:
        monkeypatch.setattr(asking, "LEASE_SURE", -1.0)
        stage.stop()

    stage.acts[7] = act
    stage.perform()
    assert stage.ran == list(range(8))
    stage.assert_ended(stage.ran)
    assert stage.waiting == list(range(8, JOBS))
    assert stage.held == []


@pytest.mark.parametrize("at", POSITIONS)
def test_a_worn_child_begins_no_more_of_what_it_claimed(stage: Stage, at: int):
    def act() -> None:
        stage.wear.worn = MEMORY
        stage.stop()

    stage.acts[at] = act
    stage.perform()
    assert stage.ran == list(range(at + 1))
    stage.assert_ended(stage.ran)
    assert stage.waiting == list(range(at + 1, JOBS))
    assert stage.held == []


@pytest.mark.parametrize("at", POSITIONS)
def test_a_slot_that_is_stopped_leaves_no_lease(stage: Stage, at: int):
    stage.acts[at] = stage.stop
    stage.perform()
    assert stage.ran == list(range(len(stage.ran)))
    stage.assert_ended(stage.ran)
    assert stage.waiting == list(range(len(stage.ran), JOBS))
    assert stage.held == []


@pytest.mark.parametrize("at", POSITIONS)
def test_a_job_that_is_retried_keeps_no_other_one_back(stage: Stage, at: int):
    def act() -> None:
        stage.assert_ended(range(max(at - 40, 0)))
        current_task.retry(countdown=0)

    stage.acts[at] = act
    stage.runs = JOBS + 1
    stage.perform()
    assert sorted(stage.ran) == sorted([*range(JOBS), at])
    stage.assert_ended()
    assert stage.held == []


def test_results_too_large_to_be_kept_are_stored_at_once(stage: Stage):
    large = "x" * 2**20
    for at in (3, 4, 16, 17, 49):
        stage.results[at] = large

    def act() -> None:
        for at in (3, 4):
            assert stage.state_of(at) == "finished"
        stage.assert_ended(range(3))

    stage.acts[5] = act
    stage.perform()
    assert stage.ran == list(range(JOBS))
    stage.assert_ended(set(range(JOBS)) - stage.results.keys())
    for at in stage.results:
        ((_, entry),) = stage.client.xrange(f"rq:results:j{at}")
        assert len(b64decode(entry[b"return_value"])) == len(large) + 2
    assert stage.held == []


def test_a_key_of_another_type_ends_no_slot(
    stage: Stage, caplog: pytest.LogCaptureFixture
):
    """Nothing can be put into the queue's registry: results are stored all the same."""

    def act() -> None:
        stage.client.set("rq:finished:default", "something else")

    stage.acts[9] = act
    stage.perform()
    assert stage.ran == list(range(JOBS))
    stage.assert_ended()
    assert stage.held == []


def test_a_result_is_refused_whose_job_somebody_else_has(
    stage: Stage, caplog: pytest.LogCaptureFixture
):
    """The others of its claim are not touched."""
    stolen: list[str] = []

    def act() -> None:
        member = next(m for m in stage.held if m.startswith("j4:"))
        stage.client.zrem("rq:wip:default", member)
        stage.client.hset("rq:job:j4", "tq_execution", "another")
        stolen.append(member)

    stage.acts[9] = act
    stage.perform()
    assert stage.ran == list(range(JOBS))
    stage.assert_ended(set(range(JOBS)) - {4})
    assert stage.state_of(4) == "started"
    refused = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert len(refused) == 1
    assert refused[0].startswith("Job j4:")


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("seed", range(8))
def test_a_mixture_of_all_that_may_happen(stage: Stage, seed: int):
    draw = random.Random(seed)
    retried = set()

    def retry() -> None:
        stage.runs += 1
        current_task.retry(countdown=0)

    acts: list[Callable[[], object]] = [
        stage.cut, stage.disconnect, stage.flush_scripts, stage.cut_and_flush,
        stage.look, stage.look, retry,
    ]  # fmt: skip
    for at in draw.sample(range(JOBS), 25):
        stage.acts[at] = act = draw.choice(acts)
        if act is retry:
            retried.add(at)
    stage.perform()
    assert sorted(stage.ran) == sorted([*range(JOBS), *retried])
    stage.assert_ended()
    assert (stage.held, stage.waiting) == ([], [])
