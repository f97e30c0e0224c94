"""Workers that are killed, frozen, cut off and restarted at random lose nothing."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.registry import StartedJobRegistry, clean_registries

from ..processes import Worker
from ..servers import eventually
from .ledger import CHILD_BACK, WORKER_BACK, Blow, History, Trouble
from .producer import Call
from .stage import Stage

SEED = int(os.environ.get("CHAOS_SEED", "4"))
"""Of the order of events and jobs. What happens still depends on the machine."""

SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
"""How long the storm lasts, to the end of its last event."""

RATE = 100
"""Jobs a second."""

BUSY = 2.5
"""Seconds a job may wait in its queue, because few slots are left and all are busy."""

FROZEN = 11.0
"""Seconds, longer than a lease."""

QUEUES = ("mail", "default", "slow")
ODD = ("later", "shaky", "broken", "expired", "revoked-late")
"""Kinds of some of them."""

SIZE = 2
"""Children of a worker."""

AHEAD = 16
"""Jobs a child claims at once at most: with its worker those are lost whose outcomes
lie in shared memory. With the child alone it is the one that ran."""

BATCH = 40
"""Jobs enqueued at a time. Those of every other batch take no time, so that several
are claimed at once, and then those of the next are among them."""


class RqTools:
    """``rq info`` and RQ's clean-up of registries in a loop, in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.infos = self.rounds = 0

    def _run(self) -> None:
        command = [sys.executable, "-m", "rq.cli", "info", "-u", self._url]
        with redis.Redis.from_url(self._url) as client:
            while not self._ended.is_set():
                done = subprocess.run(command, capture_output=True, text=True)
                self.infos += "3 queues" in done.stdout
                for _ in range(20):
                    self._clean(client)
                    self._ended.wait(0.05)

    def _clean(self, client: redis.Redis) -> None:
        try:
            for name in QUEUES:
                StartedJobRegistry(name, connection=client).get_job_ids()
                clean_registries(Queue(name, connection=client))
        except redis.ConnectionError:
            return  # it was cut off like everybody
        self.rounds += 1

    def __enter__(self) -> RqTools:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()


class Storm:
    """What happens to three workers and their server, one event after the other.

    One worker at least is always in order: without it nothing can be taken over.
    """

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng
        self._frozen: tuple[Worker, Blow, bool] | None = None
        self._free_at = 0.0
        self._workers = [self._start() for _ in range(3)]
        self._retired: list[Worker] = []
        self.all = list(self._workers)
        self.blows: list[Blow] = []
        self.troubles: list[Trouble] = []
        self.events: list[str] = []

    def _start(self) -> Worker:
        # Each prefers another queue.
        queues = self._rng.sample(QUEUES, len(QUEUES))
        return self._stage.worker("-c", str(SIZE), queues=",".join(queues), ready=False)

    @property
    def _fit(self) -> list[Worker]:
        frozen = self._frozen and self._frozen[0]
        return [
            worker
            for worker in self._workers
            if worker is not frozen and " ready." in worker.output
        ]

    def rage(self, seconds: float) -> None:
        """Let things happen for some time, each kind before one comes again."""
        end = time.monotonic() + seconds
        events = self._events()
        while time.monotonic() < end:
            time.sleep(self._rng.uniform(0.2, 0.8))
            self._freeze_or_thaw(end)
            event = next(events)
            self.events.append(event.__name__)
            event()
        while self._frozen:
            time.sleep(0.1)
            self._freeze_or_thaw(end)

    def _events(self) -> t.Iterator[t.Callable[[], None]]:
        kinds = [
            self.kill_a_child, self.kill_a_supervisor, self.kill_a_group, self.roll,
            self.cut_off, self.forget_scripts, self.hang, self.pause,
        ]  # fmt: skip
        while True:
            yield from self._rng.sample(kinds, len(kinds))

    def _freeze_or_thaw(self, end: float) -> None:
        now = time.monotonic()
        if self._frozen and now >= self._frozen[1].at + FROZEN:
            worker, blow, group = self._frozen
            worker.signal(signal.SIGCONT, group=group)
            blow.until = time.monotonic()
            self._frozen, self._free_at = None, now + self._rng.uniform(0.3, 1.0)
        elif not self._frozen and self._free_at <= now < end - FROZEN / 2:
            worker, group = self._victim(), self._rng.random() < 0.5
            what = "group frozen" if group else "supervisor frozen"
            blow = self._hit(what, worker)
            blow.until = now + 2 * FROZEN
            worker.signal(signal.SIGSTOP, group=group)
            self._frozen = worker, blow, group

    def _victim(self) -> Worker:
        """One of those in order, with preference one that runs something."""
        fit = eventually(
            lambda: len(self._fit) > 1 and self._fit, 20, "two workers are in order"
        )
        busy = self._busy
        return self._rng.choice([w for w in fit if busy & {*w.children}] or fit)

    @property
    def _busy(self) -> set[int]:
        """Pids of what runs a job, and of what was killed at that."""
        return {run.pid for run in self._stage.ledger.running()}

    def _hit(self, what: str, worker: Worker) -> Blow:
        self.blows.append(Blow(what, worker.pid, SIZE * AHEAD, WORKER_BACK + BUSY))
        return self.blows[-1]

    def _replace(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._workers.append(self._start())
        self.all.append(self._workers[-1])

    def kill_a_child(self) -> None:
        worker = self._victim()
        children = eventually(lambda: worker.children)
        busy = sorted(self._busy & {*children})
        pid = self._rng.choice(busy or children)
        self.blows.append(Blow("child killed", worker.pid, 1, CHILD_BACK + BUSY, pid))
        os.kill(pid, signal.SIGKILL)

    def kill_a_supervisor(self) -> None:
        worker = self._victim()
        self._hit("supervisor killed", worker)
        worker.signal(signal.SIGKILL)
        worker.process.wait(10)
        self._replace(worker)

    def kill_a_group(self) -> None:
        worker = self._victim()
        self._hit("group killed", worker)
        worker.kill()
        self._replace(worker)

    def roll(self) -> None:
        worker = self._victim()
        worker.signal(signal.SIGTERM)
        self._retired.append(worker)
        self._replace(worker)

    def cut_off(self) -> None:
        for kind in ("normal", "pubsub"):
            self._stage.client.client_kill_filter(_type=kind, skipme=True)

    def forget_scripts(self) -> None:
        self._stage.client.script_flush()

    def hang(self) -> None:
        self._trouble("DEBUG", "SLEEP", "1")

    def pause(self) -> None:
        self._trouble("CLIENT", "PAUSE", "1000", "ALL")

    def _trouble(self, *command: str) -> None:
        at = time.monotonic()
        self._stage.client.execute_command(*command)
        self._stage.client.ping()
        self.troubles.append(Trouble(at, time.monotonic()))
        # What waited for it comes to an end before a kill may be blamed for that.
        time.sleep(0.5)

    def stop(self) -> list[int]:
        """End those that run, in good order; all exit codes of such ends."""
        return [worker.stop() for worker in (*self._retired, *self._workers)]


def calls(rng: random.Random) -> t.Iterator[Call]:
    """Of all kinds, most of them plain."""
    for number in itertools.count():
        kind = rng.choice(ODD) if rng.random() < 0.2 else "work"
        seconds = rng.uniform(0.0, 0.04) if number // BATCH % 2 else 0.0
        if rng.random() < 0.015:
            seconds = rng.uniform(0.2, 1.5)
        yield Call(kind, number, rng.choice(QUEUES), seconds)


@pytest.mark.timeout(2 * SECONDS + 90)
def test_jobs_survive_whatever_happens_to_workers_and_server(
    tmp_path: Path, say: t.Callable[[str], None]
):
    with Stage(tmp_path, QUEUES) as stage:
        storm = Storm(stage, random.Random(SEED))
        with RqTools(stage.server.url) as tools:
            jobs = calls(random.Random(SEED))
            with stage.producer(jobs, RATE, BATCH) as producer:
                storm.rage(SECONDS)
            stage.audit.await_end(40)
        codes = storm.stop()
        history = History(stage.ledger.runs(), storm.blows, storm.troubles)
        slowest = sorted(history.slowest().items())
        say(
            f"seed {SEED}: {len(producer.accepted)} jobs, {len(storm.events)} events,"
            f" {history.extra} of {history.excused} possible second runs,"
            f" {tools.infos} times rq info; running again after at most "
            + ", ".join(f"{seconds:.2f} s ({what})" for what, seconds in slowest)
        )
        there = {call.id for call in producer.accepted}
        unsure = stage.audit.stored(producer.refused)
        assert history.jobs <= there | unsure.keys()
        assert history.problems() == []
        assert stage.audit.problems(producer.accepted) == []
        for job, stored in unsure.items():
            assert stored.status is None or [*stored.problems()] == [], job
        assert stage.audit.leaks() == []
        assert set(codes) == {0}
        assert tools.infos > 1
        assert tools.rounds > SECONDS
        for worker in storm.all:
            expected = worker.output.count(" is broken\n")
            assert worker.output.count("Traceback") == expected, worker.output
