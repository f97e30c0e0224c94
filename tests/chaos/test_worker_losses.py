"""Workers that are killed or stopped, and a server that is away: each measured."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..processes import Worker
from ..servers import eventually
from .audit import Audit
from .ledger import CHILD_BACK, WORKER_BACK, Run
from .outage import Outage
from .producer import Call
from .stage import LONG, Stage

Say = t.Callable[[str], None]

STOPPED = 20.0
"""Seconds supervisors and groups are stopped."""

AWAY = 30.0 if LONG else 15.0
"""Seconds the server is away: longer than a lease."""

GOES_ON = 5.0
"""Seconds within which workers are promised to go on after that."""

FATES = {"killed": 50, "group-stopped": 1, "stopped": 1, "orphaned": 1, "spared": 1}
"""What happens to a worker, named by the queue that it serves, and how many jobs it
runs then. Stopped and orphaned: of the supervisor alone, which is stopped, or killed.
Spared: nothing."""

HIT = FATES.keys() - {"spared"}
STOPS = ("group-stopped", "stopped")

RESCUE = 4
"""Children of the worker that takes over."""


class Losses:
    """Workers that run something each, and one that serves the queues of all."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.calls = {
            fate: [Call("hold", fate_number * 100 + n, fate) for n in range(count)]
            for fate_number, (fate, count) in enumerate(FATES.items())
        }
        self.all = [call for calls in self.calls.values() for call in calls]
        self.after: list[Call] = []
        self.workers = {fate: self._busy(fate, size) for fate, size in FATES.items()}
        eventually(lambda: len(stage.ledger.runs()) == len(self.all), 30)
        self.rescuer = stage.worker("-c", str(RESCUE), queues=",".join(FATES))
        self.at: dict[str, float] = {}
        self.resumed_at = 0.0
        self.codes: list[int] = []

    def _busy(self, fate: str, size: int) -> Worker:
        self.stage.held(fate).touch()
        self.stage.make(self.calls[fate])
        return self.stage.worker("-c", str(size), queues=f"{fate},own-{fate}")

    def begin(self) -> None:
        """Let happen to each what is to happen."""
        self._strike("killed", signal.SIGKILL, group=True)
        self._strike("group-stopped", signal.SIGSTOP, group=True)
        self._strike("stopped", signal.SIGSTOP)
        self._strike("orphaned", signal.SIGKILL)
        self.stage.held("killed").unlink()

    def _strike(self, fate: str, number: int, **how: bool) -> None:
        self.at[fate] = time.monotonic()
        self.workers[fate].signal(number, **how)

    def await_taken_over(self) -> None:
        """Until all run again; then enqueue some more, and let those that run end."""
        hit = [call for fate in HIT for call in self.calls[fate]]
        runs = len(self.all) + len(hit)
        eventually(lambda: len(self.stage.ledger.runs()) >= runs, 25)
        queues = [own + fate for own in ("own-", "") for fate in STOPS]
        self.after = [Call("work", n, queue) for n, queue in enumerate(queues * 10)]
        self.stage.make(self.after)
        for fate in HIT - {"killed"}:
            self.stage.held(fate).unlink()
        Audit(self.stage.client, HIT).await_end(10)

    def resume(self) -> None:
        """Continue what was stopped."""
        self.resumed_at = time.monotonic()
        for fate in STOPS:
            self.workers[fate].signal(signal.SIGCONT, group=True)

    def finish(self) -> None:
        """Until those that were stopped have done what only they can do."""
        self.stage.held("spared").unlink()
        self.stage.audit.await_end(15)
        up = [self.workers[fate] for fate in (*STOPS, "spared")]
        self.codes = [worker.stop() for worker in (*up, self.rescuer)]

    def runs(self, fate: str) -> tuple[list[Run], list[Run]]:
        """The first runs of the jobs of a fate, and all others."""
        jobs = [self.stage.ledger.of(call.id) for call in self.calls[fate]]
        return [runs[0] for runs in jobs], [run for runs in jobs for run in runs[1:]]

    def assert_taken_over(self, fate: str) -> float:
        """Each job ran again by the rescuer, and that result is the one.

        :return: Seconds until the last of them did.
        """
        first, again = self.runs(fate)
        assert {run.group for run in first} == {self.workers[fate].pid}
        assert {run.group for run in again} == {self.rescuer.pid}
        assert len(first) == len(again) == FATES[fate]
        stored = self.stage.audit.stored(self.calls[fate])
        for run in again:
            assert stored[run.job].value == run.pid
            assert stored[run.job].recoveries == 1
        assert self.stage.audit.problems(self.calls[fate]) == []
        return max(run.began for run in again) - self.at[fate]


class Disaster(t.NamedTuple):
    """What was seen."""

    losses: Losses
    outage: Outage
    enqueued: list[Call]


@pytest.fixture(scope="module")
def disaster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Disaster]:
    """Losses of workers, and of another server at the same time: each takes long."""
    path = tmp_path_factory.mktemp("disaster")
    queues = [own + fate for own in ("", "own-") for fate in FATES]
    with ExitStack() as exits:
        losses = Losses(exits.enter_context(Stage(path, queues)))
        outage = exits.enter_context(Outage.prepared(path / "outage"))
        began = time.monotonic()
        losses.begin()
        outage.begin()
        losses.await_taken_over()
        steps = [(AWAY, outage.end), (STOPPED, losses.resume)]
        for moment, step in sorted(steps, key=lambda one: one[0]):
            eventually(lambda until=began + moment: time.monotonic() > until, 60)
            step()
        losses.finish()
        yield Disaster(losses, outage, outage.finish())


pytestmark = pytest.mark.timeout(150)


def test_fifty_jobs_of_a_killed_worker_run_again_in_time(disaster: Disaster, say: Say):
    seconds = disaster.losses.assert_taken_over("killed")
    say(f"50 jobs of a killed worker: the last ran again after {seconds:.1f} s")
    assert seconds < WORKER_BACK


@pytest.mark.parametrize("fate", STOPS)
def test_a_worker_stopped_past_its_lease_changes_nothing(
    disaster: Disaster, say: Say, fate: str
):
    losses = disaster.losses
    seconds = losses.assert_taken_over(fate)
    say(f"a job of a worker {fate} for 20 s ran again after {seconds:.1f} s")
    assert seconds < WORKER_BACK


@pytest.mark.parametrize("fate", STOPS)
def test_a_worker_without_its_supervisor_claims_nothing(disaster: Disaster, fate: str):
    losses = disaster.losses
    stage, pid = losses.stage, losses.workers[fate].pid
    begun = [run.began for run in stage.ledger.runs() if run.group == pid]
    assert begun[0] < losses.at[fate]
    assert min(begun[1:]) > losses.resumed_at
    stage.assert_each_once(losses.after)


def test_children_end_with_their_supervisor(disaster: Disaster, say: Say):
    losses = disaster.losses
    seconds = losses.assert_taken_over("orphaned")
    say(f"a job of a killed supervisor's child ran again after {seconds:.1f} s")
    assert seconds < WORKER_BACK
    (first,), _ = losses.runs("orphaned")
    assert first.ended == float("inf")
    assert not Path(f"/proc/{first.pid}").exists()


def test_a_long_job_of_a_worker_in_order_runs_once(disaster: Disaster):
    stage, (call,) = disaster.losses.stage, disaster.losses.calls["spared"]
    (run,) = stage.ledger.of(call.id)
    assert run.ended - run.began > STOPPED
    stage.assert_each_once([call])


def test_workers_that_lost_their_leases_end_in_good_order(disaster: Disaster):
    assert set(disaster.losses.codes) == {0}
    assert disaster.losses.stage.audit.leaks() == []


def test_workers_go_on_where_they_were_when_redis_is_back(disaster: Disaster, say: Say):
    outage = disaster.outage
    seconds = outage.seconds_until_all_went_on
    say(f"Redis away for {AWAY:.0f} s: the last child went on after {seconds:.2f} s")
    assert seconds < GOES_ON
    outage.assert_nothing_lost(disaster.enqueued)
    assert outage.codes == [0, 0]


def test_the_job_of_a_killed_child_runs_again_at_once(stage: Stage, say: Say):
    held, call = stage.held("default"), Call("hold", 0)
    held.touch()
    stage.make([call])
    worker = stage.worker("-c", "2")
    killed_at = []
    for runs in range(1, 7):
        eventually(lambda count=runs: len(stage.ledger.runs()) == count)
        killed_at.append(time.monotonic())
        os.kill(stage.ledger.runs()[-1].pid, signal.SIGKILL)
    held.unlink()
    stage.audit.await_end(10)
    begun = [run.began for run in stage.ledger.runs()]
    took = [after - at for at, after in zip(killed_at, begun[1:], strict=True)]
    say(f"the job of a killed child ran again after at most {max(took):.3f} s")
    assert max(took) < CHILD_BACK
    assert stage.audit.stored([call])[call.id].recoveries == len(took)
    assert stage.audit.problems([call]) == []
    assert worker.stop() == 0
