"""The scripts against a model in memory, in any order that Hypothesis thinks of."""

from __future__ import annotations

import itertools
import time
import typing as t
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import redis
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_taskqueue import control
from flask_taskqueue.appstate import AppState
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Ended, Lease, NewJob, Next
from flask_taskqueue.errors import JobNotFound

from ..running import InProcess
from . import places
from .examples import TIMEOUT, examples
from .looking import Look, unchanged
from .model import Model
from .places import Known

IDS = ("i1", "i2", "i3", "i4", "i5")
QUEUES = ("a", "b")
WORKERS = ("w1", "w2")
TASKS = ("t1", "t2")
LEASE = 10.0
FAR = 5_000
"""Seconds that nobody waits for."""

LATE = (
    "finish", "finish some", "retry", "release", "progress", "begin", "park",
)  # fmt: skip

queues = st.sampled_from([("a", "b"), ("b", "a"), ("a",), ("b",)])
data = st.data()


def has(*where: str) -> t.Any:
    """A rule that needs a job somewhere."""
    return precondition(lambda self: self.model.at(*where))


class Machine(RuleBasedStateMachine):
    """Each rule calls one script and the model, and compares what they say."""

    def __init__(self, client: redis.Redis, state: AppState) -> None:
        super().__init__()
        self.client: t.Any = client
        self.state = state
        client.flushall()
        self.model = Model()
        self.old: list[Lease] = []
        self.calls: dict[Lease, Claim] = {}
        self._numbers = itertools.count(1)
        # The first one has nobody to compare the time with.
        self._sweep()

    def _new(self) -> str:
        return str(next(self._numbers))

    def _claim(self, worker: str, queues: tuple[str, ...], most: int) -> Claim:
        """A call for the next jobs, as one slot of a worker makes it."""
        first = [int(self._new()) for _ in range(most)][0]
        return Claim(worker, f"{worker}.s.", first, LEASE, queues, most)

    def _job(self, data: st.DataObject, *where: str) -> Known:
        return data.draw(st.sampled_from(self.model.at(*where)), label="job")

    def _lease(self, data: st.DataObject) -> Lease:
        """One that is held; some are taken where none is."""
        if not self.model.leases():
            self._enqueue_all(later=False)
            self.claim("w1", QUEUES, 2)
        leases = self.model.leases()
        assume(leases)
        return data.draw(st.sampled_from(leases), label="lease")

    def _enqueue_all(self, *, later: bool) -> None:
        """Jobs of all kinds, as far as their ids are free."""
        for n, job_id in enumerate(IDS):
            self.enqueue(
                job_id, QUEUES[n % 3 % 2], later, n % 2 == 0,
                plain=n == 4, fails_when_lost=n == 3, cap=(0, 1, 3, 1, 0)[n],
            )  # fmt: skip

    # Coming

    @rule(
        job_id=st.sampled_from(IDS),
        queue=st.sampled_from(QUEUES),
        later=st.booleans(),
        front=st.booleans(),
        plain=st.booleans(),
        fails_when_lost=st.booleans(),
        cap=st.sampled_from([0, 1, 3]),
    )
    def enqueue(
        self, job_id: str, queue: str, later: bool, front: bool, **lost: t.Any
    ) -> None:
        nonce = self._new()
        new = self._written(job_id, queue, later, front, **lost)
        code = scripts.enqueue(self.client, new, nonce)
        assert code == self.model.enqueue(
            job_id, queue, nonce, later=later, front=front, **lost
        )

    @rule(
        calls=st.lists(
            st.tuples(st.sampled_from(IDS), st.sampled_from(QUEUES), st.booleans()),
            min_size=2,
            max_size=6,
        )
    )
    def enqueue_many(self, calls: list[tuple[str, str, bool]]) -> None:
        nonces = [self._new() for _ in calls]
        jobs = [self._written(id, queue, front=front) for id, queue, front in calls]
        codes = scripts.enqueue_many(self.client, list(zip(jobs, nonces, strict=True)))
        assert codes == [
            self.model.enqueue(id, queue, nonce, later=False, front=front)
            for (id, queue, front), nonce in zip(calls, nonces, strict=True)
        ]

    def _written(
        self,
        job_id: str,
        queue: str,
        later: bool = False,
        front: bool = False,
        plain: bool = False,
        fails_when_lost: bool = False,
        cap: int = 3,
    ) -> NewJob:
        fields: dict[str, t.Any] = {
            "result_ttl": places.RESULT_TTL, "failure_ttl": places.FAILURE_TTL,
            "tq_max_recoveries": cap,
        }  # fmt: skip
        if not plain:
            fields["tq_task"] = "t1"
        if fails_when_lost:
            fields["tq_on_lost"] = "fail"
        return NewJob(
            id=job_id, queue=queue, fields=fields, front=front,
            due=f"+{FAR}" if later else "", expires=f"+{FAR}",
        )  # fmt: skip

    @precondition(lambda self: any(job.nonce for job in self.model.jobs.values()))
    @rule(data=data)
    def enqueue_the_same_call_again(self, data: st.DataObject) -> None:
        jobs = [job for job in self.model.jobs.values() if job.nonce]
        job = data.draw(st.sampled_from(jobs), label="job")
        new = self._written(job.id, job.queue)
        with unchanged(self.client):
            assert scripts.enqueue(self.client, new, job.nonce) == 2

    # Running

    @rule(
        worker=st.sampled_from(WORKERS),
        queues=queues,
        most=st.sampled_from([1, 1, 2, 4]),
    )
    def claim_what_waits(self, worker: str, queues: tuple[str, ...], most: int) -> None:
        if not self.model.at(places.QUEUE):
            self._enqueue_all(later=False)
        self.claim(worker, queues, most)

    def claim(self, worker: str, queues: tuple[str, ...], most: int) -> None:
        wanted = self._claim(worker, queues, most)
        self._compare(scripts.claim(self.client, wanted), wanted)

    def _compare(self, found: Next, wanted: Claim) -> None:
        numbers = range(wanted.first, wanted.first + wanted.most)
        executions = [f"{wanted.prefix}{number}" for number in numbers]
        leases, held_back, notes = self.model.claim(wanted.queues, executions)
        assert [job.lease for job in found.jobs] == leases
        assert found.held_back == held_back
        assert [(note.kind, note.id) for note in found.notes] == notes
        self.old += leases
        self.calls |= dict.fromkeys(leases, wanted)

    @has(places.QUEUE)
    @rule(queues=queues, paused=st.sampled_from(QUEUES), suspended=st.booleans())
    def claim_while_held_back(
        self, queues: tuple[str, ...], paused: str, suspended: bool
    ) -> None:
        self.model.paused, self.model.suspended = {paused}, suspended
        assert control.pause(self.state, paused)
        assert not control.pause(self.state, paused)
        if suspended:
            self.client.set("rq:suspended", 1)
        self._sweep_and_compare(late=False)
        self.claim("w1", queues, 2)
        self.model.paused, self.model.suspended = set(), False
        self.client.delete("rq:suspended")
        assert control.resume(self.state, paused)
        assert not control.resume(self.state, paused)

    @rule(data=data)
    def claim_whose_reply_was_lost(self, data: st.DataObject) -> None:
        lease = self._lease(data)
        wanted = replace(self.calls[lease], queues=QUEUES)
        held = [x for x in self.old if self.calls[x] == self.calls[lease]]
        with unchanged(self.client):
            found = scripts.claim(self.client, wanted, again=True)
        assert [job.lease for job in found.jobs] == [
            x for x in held if self.model.holds(x)
        ]

    @rule(
        data=data,
        status=st.sampled_from(["finished", "failed"]),
        link=st.none() | st.tuples(st.sampled_from(IDS), st.sampled_from(QUEUES)),
        queues=st.none() | queues,
    )
    def finish(
        self,
        data: st.DataObject,
        status: str,
        link: tuple[str, str] | None,
        queues: tuple[str, ...] | None,
    ) -> None:
        lease = self._lease(data)
        worker = lease.execution.partition(".")[0]
        wanted = queues and self._claim(worker, queues, 2)
        code, found = self._finish(lease, status, link, wanted)
        assert code == self.model.finish(lease, status, link)
        if wanted is not None:
            self._compare(found, wanted)

    def _finish(
        self,
        lease: Lease,
        status: str,
        link: tuple[str, str] | None = None,
        wanted: Claim | None = None,
    ) -> tuple[int, Next]:
        links = [] if link is None else [self._written(*link)]
        ended = Ended(lease=lease, status=status, fields={}, entry={}, links=links)
        (code,), found = scripts.finish(self.client, [ended], wanted)
        return code, found

    @rule(data=data, status=st.sampled_from(["finished", "failed"]))
    def finish_some(self, data: st.DataObject, status: str) -> None:
        """Of which some may have lost their leases."""
        self._lease(data)
        some = st.lists(st.sampled_from(self.old[-8:]), min_size=1, unique=True)
        self._finish_all(data.draw(some, label="leases"), status)

    def _finish_all(self, leases: Sequence[Lease], status: str) -> None:
        ends = [
            Ended(lease=lease, status=status, fields={}, entry={}) for lease in leases
        ]
        codes, _ = scripts.finish(self.client, ends, None)
        assert codes == self.model.finish_all([(lease, status) for lease in leases])

    @rule(data=data)
    def begin(self, data: st.DataObject) -> None:
        """What was claimed ahead has been started meanwhile."""
        lease = self._lease(data)
        assert scripts.begun(self.client, lease, 0.5)
        self.model.jobs[lease.id].begun = True

    @rule(
        data=data,
        later=st.booleans(),
        front=st.booleans(),
        counted=st.booleans(),
        queue=st.sampled_from(QUEUES),
    )
    def retry(self, data: st.DataObject, **how: t.Any) -> None:
        lease = self._lease(data)
        assert self._retry(lease, **how) == self.model.retry(lease, **how)

    def _retry(
        self, lease: Lease, later: bool, front: bool, counted: bool, queue: str
    ) -> tuple[int, int]:
        due = f"+{FAR}" if later else ""
        error = b"{}" if counted else b""
        return scripts.retry(
            self.client, lease, due=due, error=error, front=front, queue=queue
        )

    @rule(data=data, started=st.booleans())
    def release(self, data: st.DataObject, started: bool) -> None:
        first = self._lease(data)
        more = st.lists(st.sampled_from(self.model.leases()), unique=True)
        leases = list(dict.fromkeys([first, *data.draw(more, label="leases")]))
        codes = scripts.release(self.client, leases, started=started)
        assert codes == self.model.release(leases, started=started)
        self._call_hooks()

    @rule(data=data, queues=queues, ran=st.booleans())
    def child_dies(
        self, data: st.DataObject, queues: tuple[str, ...], ran: bool
    ) -> None:
        lease = self._lease(data)
        prefix = lease.execution.rpartition(".")[0] + "."
        charged = lease.execution if ran else ""
        call = partial(
            scripts.abandon, self.client, prefix,
            ran=charged, reason="dead", queues=queues,
        )  # fmt: skip
        wanted = self.model.abandon(prefix, charged, queues)
        assert [(job.id, job.queue, job.what) for job in call()] == wanted
        with unchanged(self.client):
            assert call() == ()
        self._call_hooks()

    @rule(data=data, status=st.sampled_from(["failed", "stopped"]))
    def child_is_killed(self, data: st.DataObject, status: str) -> None:
        """For its job, which is over."""
        lease = self._lease(data)
        ended = Ended(lease=lease, status=status, fields={}, entry={})
        assert scripts.bury(self.client, ended) == 1
        assert self.model.finish(lease, status, None) == 1
        self.model.hooks_left.add(lease)
        self._call_hooks()

    def _call_hooks(self) -> None:
        """Of jobs that ended without their process: at once, as some slot would."""
        for queue in QUEUES:
            members = self._members(f"tq:aftermath:{queue}")
            left = [x for x in self.model.hooks_left if x.queue == queue]
            assert sorted(members) == sorted(f"{x.id}:{x.execution}" for x in left)
            self.client.delete(f"tq:aftermath:{queue}")
        self.client.delete("tq:aftermath")
        self.model.hooks_left.clear()

    @rule(data=data)
    def progress(self, data: st.DataObject) -> None:
        lease = self._lease(data)
        assert scripts.progress(self.client, lease, {"tq_state": "PROGRESS"})

    @rule(data=data, worker=st.sampled_from(WORKERS), queues=queues)
    def renew(self, data: st.DataObject, worker: str, queues: tuple[str, ...]) -> None:
        mine = [x for x in self.old if x.execution.startswith(worker)][-6:]
        held = data.draw(
            st.lists(st.sampled_from(mine), unique=True) if mine else st.just([])
        )
        self._renew(worker, queues, held)

    def _renew(
        self, worker: str, queues: tuple[str, ...], held: Sequence[Lease]
    ) -> None:
        found = scripts.renew(
            self.client, worker, lease=LEASE, record_ttl=90, record={"state": "busy"},
            counters=(1, 0, 0.5), queues=queues, held=held,
        )  # fmt: skip
        lost, stop, unknown = self.model.renew(worker, queues, held)
        assert (found.lost, found.stop) == (lost, stop)
        assert set(found.unknown) == unknown

    @precondition(lambda self: self._lost())
    @rule(
        data=data,
        call=st.sampled_from(LATE),
        status=st.sampled_from(["finished", "failed"]),
    )
    def come_too_late(self, data: st.DataObject, call: str, status: str) -> None:
        """Whoever lost the right to run a job changes nothing any more."""
        lease = data.draw(st.sampled_from(self._lost()), label="lease")
        for worker in WORKERS:
            # Who runs it now has records of that.
            self._renew(worker, QUEUES, self.model.leases(prefix=f"{worker}."))
        with unchanged(self.client):
            assert not self._late_calls(lease, status)[call]()

    def _late_calls(self, lease: Lease, status: str) -> dict[str, Callable[[], object]]:
        """Each is true if it did something, or said something wrong."""
        client = self.client
        link = (IDS[0], "b")
        retry: t.Any = {"later": False, "front": True, "counted": True, "queue": "a"}
        return {
            "finish": lambda: (
                self._finish(lease, status, link)[0]
                != self.model.finish(lease, status, link)
            ),
            "finish some": lambda: self._finish_all(
                self._lost(also_of_others=True), status
            ),
            "retry": lambda: (
                self._retry(lease, **retry) != self.model.retry(lease, **retry)
            ),
            "release": lambda: scripts.release(client, [lease], started=True) != [0],
            "progress": lambda: scripts.progress(client, lease, {"tq_state": "X"}),
            "begin": lambda: scripts.begun(client, lease, 0.5),
            "park": lambda: scripts.park(client, lease, "t1"),
        }

    def _lost(self, *, also_of_others: bool = False) -> list[Lease]:
        """Leases of before; of jobs that run again, where there are such."""
        lost = [x for x in self.old if not self.model.holds(x)]
        running = {job.id for job in self.model.at(places.WIP)}
        again = [x for x in lost if x.id in running]
        return (lost if also_of_others or not again else again)[-12:]

    # Setting aside

    @rule(data=data, task=st.sampled_from(TASKS))
    def park(self, data: st.DataObject, task: str) -> None:
        lease = self._lease(data)
        assert scripts.park(self.client, lease, task) == self.model.park(lease)

    @rule(data=data, task=st.sampled_from(TASKS), queues=queues)
    def unpark(self, data: st.DataObject, task: str, queues: tuple[str, ...]) -> None:
        if not self.model.at(places.PARKED):
            self.park(data, task)
        order = self._members(f"tq:parked:{task}")
        moved = scripts.unpark(self.client, task, most=100, queues=queues)
        assert moved == self.model.unpark(queues, order)

    def _members(self, key: str) -> list[str]:
        return [member.decode() for member in self.client.zrange(key, 0, -1)]

    # Time, and what looks after it

    @rule(data=data)
    def leases_end(self, data: st.DataObject) -> None:
        self._lease(data)
        held = st.sampled_from(self.model.leases())
        for lease in data.draw(st.lists(held, min_size=1, unique=True), label="ended"):
            ended = time.time() + 86_400 - FAR + self.model.lapse(lease)
            member = f"{lease.id}:{lease.execution}"
            self.client.zadd(f"rq:wip:{lease.queue}", {member: ended}, xx=True)

    @rule(data=data, late=st.booleans())
    def workers_are_lost(self, data: st.DataObject, late: bool) -> None:
        self.leases_end(data)
        self.sweep(late)

    @rule(data=data, queues=queues)
    def etas_come(self, data: st.DataObject, queues: tuple[str, ...]) -> None:
        if not self.model.at(places.SCHEDULED):
            self._enqueue_all(later=True)
        jobs = self.model.at(places.SCHEDULED)
        assume(jobs)
        for job in data.draw(st.permutations(jobs), label="in this order"):
            self.model.due = [x for x in self.model.due if x != job.id] + [job.id]
            at = {job.id: float(self._new())}
            self.client.zadd(f"rq:scheduled:{job.queue}", at, xx=True)
        self.promote(queues)

    @has(places.QUEUE, places.SCHEDULED)
    @rule(data=data)
    def expires(self, data: st.DataObject) -> None:
        job = self._job(data, places.QUEUE, places.SCHEDULED)
        job.expired = True
        self.client.hset(f"rq:job:{job.id}", "tq_expires", "1.0")

    @has(*places.REGISTRIES, places.NOWHERE)
    @rule(data=data)
    def lifetime_ends(self, data: st.DataObject) -> None:
        job = self._job(data, *places.REGISTRIES, places.NOWHERE)
        self.client.delete(f"rq:job:{job.id}", f"rq:results:{job.id}")
        over = {job.id: float(self._new())}
        self.client.zadd(f"rq:{job.place}:{job.queue}", over, xx=True)
        self.model.outlive(job)

    @rule(late=st.booleans())
    def sweep(self, late: bool) -> None:
        if late:
            # Nobody has swept for a while.
            self.client.set("tq:swept", "1.0")
        self._sweep_and_compare(late=late)

    def _sweep_and_compare(self, *, late: bool) -> None:
        found = self._sweep()
        wanted = self.model.sweep(late=late)
        for queue in QUEUES:
            assert [x for x in found if x[1] == queue] == [
                x for x in wanted if x[1] == queue
            ]
        self._call_hooks()

    def _sweep(self) -> list[tuple[str, str, str]]:
        swept = scripts.sweep(
            self.client, gap=FAR, lease=LEASE, most=100, queues=QUEUES
        )
        assert swept.paused == self.model.paused
        assert swept.suspended == self.model.suspended
        ready = {q for q in QUEUES if self.client.exists(f"tq:ready:{q}")}
        assert set(swept.ready) == ready
        return [(job.id, job.queue, job.what) for job in swept.recovered]

    @has(places.SCHEDULED)
    @rule(queues=queues)
    def promote(self, queues: tuple[str, ...]) -> None:
        next_due = scripts.promote(self.client, queues, most=100)
        self.model.promote(queues)
        left = [job for job in self.model.at(places.SCHEDULED) if job.queue in queues]
        assert (next_due is not None) == bool(left)

    @precondition(lambda self: any(self.model.over.values()))
    @rule()
    def prune(self) -> None:
        # A minute has passed.
        self.client.delete("tq:pruned")
        out, _ = scripts.prune(self.client, most=100)
        assert out >= self.model.prune()
        empty = {task for task in TASKS if not self.client.exists(f"tq:parked:{task}")}
        names = {name.decode() for name in self.client.smembers("tq:parked")}
        assert not names & empty

    # People

    @precondition(lambda self: self.model.jobs)
    @rule(job_id=st.sampled_from(IDS), terminate=st.booleans())
    def revoke(self, job_id: str, terminate: bool) -> None:
        code = scripts.revoke(self.client, job_id, terminate=terminate)
        assert code == self.model.revoke(job_id, terminate=terminate)

    @precondition(lambda self: self.model.jobs)
    @rule(job_id=st.sampled_from(IDS))
    def requeue(self, job_id: str) -> None:
        wanted = self.model.requeue(job_id)
        if wanted == 0:
            with pytest.raises(JobNotFound):
                control.requeue(self.state, job_id)
        else:
            assert control.requeue(self.state, job_id) == (wanted == 1)

    @rule(data=data, queue=st.sampled_from(QUEUES))
    def requeue_failed(self, data: st.DataObject, queue: str) -> None:
        if not self.model.at(places.FAILED):
            self.finish(data, "failed", None, None)
        order = self._members(f"rq:failed:{queue}")
        done = control.requeue_failed(self.state, queue)
        assert done == self.model.requeue_failed(order)
        self.model.drop_over(places.FAILED, queue)

    @has(*places.STATUS)
    @rule(
        queue=st.sampled_from(QUEUES), scheduled=st.booleans(), deferred=st.booleans()
    )
    def purge(self, queue: str, **too: bool) -> None:
        assert control.purge(self.state, queue, **too) == self.model.purge(queue, **too)

    @precondition(lambda self: self.model.jobs)
    @rule(job_id=st.sampled_from(IDS))
    def forget(self, job_id: str) -> None:
        assert scripts.forget(self.client, job_id) == self.model.forget(job_id)

    @invariant()
    def everything_is_in_its_place(self) -> None:
        look, model = Look(self.client), self.model
        for queue in QUEUES:
            assert look.members(f"tq:ready:{queue}") == model.lists["ready", queue]
            assert look.members(f"rq:queue:{queue}") == model.lists[places.QUEUE, queue]
            leases = [f"{x.id}:{x.execution}" for x in model.leases(queue=queue)]
            assert look.members(f"rq:wip:{queue}") == leases
        assert look.jobs == set(model.jobs)
        for job in model.jobs.values():
            assert_is(look, job)
        waiting = {f"rq:job:{job.id}" for job in model.at(*places.STATUS)}
        assert look.kept_for_ever == waiting
        assert "tq:scratch" not in look.ttls


def assert_is(look: Look, job: Known) -> None:
    """A job is as the model says, and in one place only."""
    where = [] if job.place == places.NOWHERE else [(job.place, job.queue)]
    assert look.places(job.id) == where
    stored = look.field(job.id, "status"), look.field(job.id, "origin")
    assert stored == (job.status, job.queue)
    assert int(look.field(job.id, "tq_retries") or 0) == job.retries
    assert int(look.field(job.id, "tq_recoveries") or 0) == job.recoveries
    least, most = job.entries
    assert least <= look.ends(job.id) <= most
    if job.place in (*places.REGISTRIES, places.NOWHERE):
        ttl = look.ttls[f"rq:job:{job.id}"]
        assert job.ttl - 60 < ttl <= job.ttl
    if job.place in places.REGISTRIES:
        registry = f"rq:{job.place}:{job.queue}"
        score = dict(look.values[registry])[job.id.encode()]
        assert abs(score - look.now - ttl) < 3


@pytest.mark.timeout(TIMEOUT)
def test_the_scripts_do_as_the_model(client: redis.Redis, redis_url: str):
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        state = site.tq.state
        run_state_machine_as_test(
            lambda: Machine(client, state),
            settings=examples(90, stateful_step_count=50),
        )


def test_a_job_ends_in_the_queue_it_is_met_in(client: redis.Redis, redis_url: str):
    """Its id stayed there when it was revoked, and was used again for another one."""
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        for ends in ("purge", "claim"):
            machine = Machine(client, site.tq.state)
            machine.enqueue("i1", "a", False, False)
            machine.revoke("i1", False)
            machine.enqueue("i1", "b", False, False)
            if ends == "purge":
                machine.purge("a", scheduled=False, deferred=False)
            else:
                machine.model.jobs["i1"].expired = True
                client.hset("rq:job:i1", "tq_expires", "1.0")
                machine.claim("w1", ("a",), 1)
            machine.everything_is_in_its_place()
            machine.requeue("i1")
            machine.everything_is_in_its_place()
