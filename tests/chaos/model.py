"""What the scripts should do, done in memory: the model of the state machine."""

from __future__ import annotations

from collections.abc import Sequence

from flask_taskqueue.broker.wire import Lease

from .places import (
    CANCELED,
    FAILED,
    FINISHED,
    FORGOTTEN_TTL,
    NOWHERE,
    PARKED,
    PURGED_TTL,
    QUEUE,
    SCHEDULED,
    STATUS,
    WIP,
    Known,
    Places,
)


class Model(Places):
    """Each method is one script; it returns what that is to say."""

    # Running

    def claim(
        self, queues: Sequence[str], executions: Sequence[str]
    ) -> tuple[list[Lease], bool, list[tuple[str, str]]]:
        """The leases, whether something is held back, and notes of what was dropped.

        :param executions: As many as jobs are wanted.
        """
        notes: list[tuple[str, str]] = []
        if self.suspended:
            return [], True, notes
        for queue in queues:
            while queue not in self.paused and (ids := self._pop(queue, executions)):
                if leases := self._claim_of(ids, queue, executions, notes):
                    return leases, False, notes
        return [], bool(self.paused), notes

    def _pop(self, queue: str, executions: Sequence[str]) -> list[str]:
        """From the first list that has some. What is not taken is put back."""
        kind = "ready" if self.lists["ready", queue] else QUEUE
        self._source = entries = self.lists[kind, queue]
        ids = entries[: len(executions)]
        del entries[: len(executions)]
        return ids

    def _claim_of(
        self,
        ids: list[str],
        queue: str,
        executions: Sequence[str],
        notes: list[tuple[str, str]],
    ) -> list[Lease]:
        leases: list[Lease] = []
        rank = next(self._ranks)
        while ids:
            job = self.jobs.get(ids[0])
            if job is None or job.place != QUEUE:
                del ids[0]
                continue
            if why_not := self._why_not(job):
                # Where it is met is where it belongs from now on.
                job.queue = queue
                self._end(job, CANCELED)
                notes.append((why_not, ids.pop(0)))
                continue
            alone = job.plain or job.fails_when_lost or job.recoveries > 0
            if not (alone and leases):
                job.queue, job.begun = queue, not leases
                leases.append(self._start(job, executions[len(leases)], rank))
                del ids[0]
            if alone:
                break
        self._source[:0] = ids
        return leases

    def _why_not(self, job: Known) -> str:
        if job.mark and not job.had_ended:
            return "revoked"
        return "expired" if job.expired else ""

    def _start(self, job: Known, execution: str, rank: int) -> Lease:
        if job.had_ended:
            job.retries = job.recoveries = 0
            job.mark, job.had_ended = "", False
        job.execution = execution
        job.place, job.status = WIP, STATUS[WIP]
        lease = Lease(job.queue, job.id, execution)
        self.wip[lease] = rank
        return lease

    def finish(self, lease: Lease, status: str, link: tuple[str, str] | None) -> int:
        (code,) = self.finish_all([(lease, status)])
        if code == 1 and link is not None and self._make_room(link[0]):
            self.enqueue(link[0], link[1], "", later=False)
        return code

    def finish_all(self, ends: Sequence[tuple[Lease, str]]) -> list[int]:
        taken = [self._take(lease) for lease, _ in ends]
        both = list(zip(ends, taken, strict=True))
        self._end_all(
            [
                (job, FINISHED if status == "finished" else FAILED, status)
                for (_, status), job in both
                if job is not None
            ]
        )
        return [self._stored_before(*end) if job is None else 1 for end, job in both]

    def _stored_before(self, lease: Lease, status: str) -> int:
        job = self.jobs.get(lease.id)
        said = job and job.execution == lease.execution and job.status == status
        return 2 if said else 0

    def retry(
        self, lease: Lease, *, later: bool, front: bool, queue: str, counted: bool
    ) -> tuple[int, int]:
        job = self._take(lease)
        if job is None:
            job = self.jobs.get(lease.id)
            if job is None or job.execution != lease.execution or job.place == WIP:
                return 0, 0
            return 2, job.retries
        if job.mark:
            self._end(job, CANCELED)
            return 3, job.retries
        job.retries += counted
        job.queue = queue
        self.queues.add(queue)
        if later:
            job.place, job.status = SCHEDULED, STATUS[SCHEDULED]
        else:
            self._wait(job, front=front)
        return 1, job.retries

    def release(self, leases: Sequence[Lease], *, started: bool) -> list[int]:
        codes = []
        for lease in reversed(leases):
            job = self._take(lease)
            what = job and self._give_back(job, lease, started)
            codes.append(0 if what is None else 1 if what == "given" else 2)
        return codes[::-1]

    def _give_back(self, job: Known, lease: Lease, started: bool) -> str:
        if job.mark:
            return self._end_alone(job, lease, CANCELED, "revoked")
        if started and job.fails_when_lost:
            return self._end_alone(job, lease, FAILED, "failed")
        self._wait(job, front=True)
        return "given"

    def _end_alone(self, job: Known, lease: Lease, registry: str, what: str) -> str:
        self._end(job, registry)
        self.hooks_left.add(lease)
        return what

    def _recover(self, job: Known, lease: Lease, *, ran: bool) -> str:
        if job.mark:
            return self._end_alone(job, lease, CANCELED, "revoked")
        if not (ran or job.begun):
            self._wait(job, front=True)
            return "given"
        job.recoveries += 1
        if job.fails_when_lost or job.recoveries > job.cap:
            return self._end_alone(job, lease, FAILED, "failed")
        self._wait(job, front=True)
        return "requeued"

    def abandon(
        self, prefix: str, ran: str, queues: Sequence[str]
    ) -> list[tuple[str, str, str]]:
        out = []
        for queue in queues:
            found = self.leases(queue=queue, prefix=prefix)
            # The first claimed is to be in front again.
            for lease in sorted(found, key=_number, reverse=True):
                job = self._take(lease)
                assert job is not None
                if lease.execution == ran:
                    what = self._recover(job, lease, ran=True)
                else:
                    what = self._give_back(job, lease, False)
                out.append((lease.id, queue, what))
        return out

    def park(self, lease: Lease) -> int:
        job = self._take(lease)
        if job is None:
            return 0
        job.place, job.status = PARKED, STATUS[PARKED]
        return 1

    def unpark(self, queues: Sequence[str], order: Sequence[str]) -> int:
        """:param order: Of the jobs that are parked for the task."""
        moved = 0
        for job_id in order:
            job = self.jobs[job_id]
            if job.queue in queues:
                self._wait(job, front=False, to="ready")
                moved += 1
        return moved

    def renew(
        self, worker: str, queues: Sequence[str], held: Sequence[Lease]
    ) -> tuple[set[str], set[str], set[Lease]]:
        """Executions that were lost, those to be stopped, and leases not named."""
        lost, stop, rank = set(), set(), next(self._ranks)
        for lease in held:
            if not self.holds(lease):
                lost.add(lease.execution)
                continue
            self.lapsed.pop(lease, None)
            self.wip[lease] = rank
            if self.jobs[lease.id].mark == "terminate":
                stop.add(lease.execution)
        unknown = {
            lease
            for lease in self.leases(prefix=f"{worker}.")
            if lease.queue in queues and lease not in held
        }
        return lost, stop, unknown

    # Time, and what looks after it

    def lapse(self, lease: Lease) -> int:
        """Its end has come; a rank for that."""
        self.wip.pop(lease, None)
        self.lapsed[lease] = next(self._ranks)
        return self.lapsed[lease]

    def sweep(self, *, late: bool) -> list[tuple[str, str, str]]:
        out = []
        if late:
            rank = next(self._ranks)
            self.wip = dict.fromkeys(self.leases(), rank)
            self.lapsed.clear()
        for lease in self.leases():
            if lease in self.lapsed:
                job = self._take(lease)
                assert job is not None
                what = self._recover(job, lease, ran=False)
                out.append((lease.id, lease.queue, what))
        self.promote(sorted(self.queues))
        return out

    def promote(self, queues: Sequence[str]) -> None:
        for queue in queues:
            due = [x for x in self.due if self.jobs[x].queue == queue]
            self.due = [x for x in self.due if x not in due]
            jobs = [self.jobs[x] for x in due]
            for job in jobs:
                job.place, job.status = QUEUE, STATUS[QUEUE]
            for job in jobs:
                if not job.front:
                    self._push(job)
            for job in reversed(jobs):
                if job.front:
                    self._push(job)

    def prune(self) -> int:
        gone = sum(map(len, self.over.values()))
        self.over.clear()
        return gone

    # People

    def revoke(self, job_id: str, *, terminate: bool) -> int:
        job = self.jobs.get(job_id)
        if job is None or job.forgotten:
            return 0
        if job.place == WIP:
            if job.mark != "terminate":
                job.mark = "terminate" if terminate else "revoke"
            return 2
        if self._has_ended(job):
            return 3
        self.due = [x for x in self.due if x != job_id]
        self._end(job, CANCELED)
        return 1

    def requeue(self, job_id: str) -> int:
        job = self.jobs.get(job_id)
        if job is None or job.forgotten:
            return 0
        if not self._has_ended(job):
            return 2
        self._leave_registries(job)
        job.retries, job.expired, job.nonce = 0, False, ""
        self._wait(job, front=False)
        return 1

    def requeue_failed(self, order: Sequence[str]) -> int:
        """:param order: Of the queue's registry of failed jobs."""
        failed = [self.jobs[x] for x in order if x in self.jobs]
        return sum(self.requeue(job.id) == 1 for job in failed if job.status == FAILED)

    def drop_over(self, registry: str, queue: str) -> None:
        """Ids without a job in a registry are taken out of it."""
        over = self.over[registry, queue]
        over[:] = [x for x in over if x in self.jobs]

    def purge(self, queue: str, *, scheduled: bool, deferred: bool) -> int:
        revoked = 0
        for kind in ("ready", QUEUE):
            entries, self.lists[kind, queue] = self.lists[kind, queue], []
            for job_id in entries:
                job = self.jobs.get(job_id)
                if job is not None and job.place == QUEUE:
                    revoked += self._purge(job, queue)
        places = [SCHEDULED] * scheduled + [PARKED] * deferred
        for job in self.at(*places):
            if job.queue == queue:
                revoked += self._purge(job, queue)
        return revoked

    def _purge(self, job: Known, queue: str) -> int:
        job.queue = queue
        self.due = [x for x in self.due if x != job.id]
        self._end(job, CANCELED)
        job.ttl = min(job.ttl, PURGED_TTL)
        job.entries = 0, job.entries[1]
        return 1

    def forget(self, job_id: str) -> int:
        job = self.jobs.get(job_id)
        if job is None or job.forgotten:
            return 0
        job.forgotten = True
        if self._has_ended(job):
            self._leave_registries(job)
            job.place, job.ttl, job.entries = NOWHERE, FORGOTTEN_TTL, (0, 0)
        return 1


def _number(lease: Lease) -> int:
    return int(lease.execution.rpartition(".")[2])
