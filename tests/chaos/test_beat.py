"""Beats that are killed, frozen and started again: each due time fires once."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest

from ..processes import AppFolder, Worker
from ..servers import eventually
from .books import EACH, Books, assert_on_grid, declaring

SEED = int(os.environ.get("CHAOS_SEED", "4"))
"""Of the order of kills and starts. What happens still depends on the machine."""

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
"""How long beats are killed."""

PATIENCE = 15.0
"""Seconds of lateness after which they are left alone until that is made up for: a due
time that is late by more than its grace of 60 s is given up, as promised."""

TAKES_OVER = 5.0
"""Seconds within which a dead leader is promised to be replaced."""

TEN = [f"each-{number}" for number in range(10)]


class Herd:
    """Some beats, each running or dead; which of them is up is left to chance."""

    def __init__(self, folder: AppFolder, books: Books, size: int = 3) -> None:
        self._folder = folder
        self._books = books
        self._rng = random.Random(SEED)
        self._beats: list[Worker | None] = [None] * size
        self.all: list[Worker] = []
        self.killed = self.stopped = self.leaders = 0

    @property
    def up(self) -> list[int]:
        """Numbers of those that run."""
        return [
            number
            for number, beat in enumerate(self._beats)
            if beat is not None and beat.process.poll() is None
        ]

    @property
    def down(self) -> list[int]:
        """Numbers of those that do not."""
        return sorted(set(range(len(self._beats))) - set(self.up))

    def start(self, *numbers: int) -> None:
        """Start beats, without waiting until they are ready."""
        for number in numbers:
            self._beats[number] = beat = self._folder.beat(ready=False)
            self.all.append(beat)

    def end_one(self) -> None:
        """Kill or stop one, with preference the one that leads."""
        pid = self._books.leader_pid()
        leaders = [n for n in self.up if self._at(n).pid == pid]
        number = self._rng.choice(self.up)
        if self._rng.random() < 0.7 and leaders:
            (number,) = leaders
        self.leaders += number in leaders
        beat = self._at(number)
        if self._rng.random() < 0.75:
            self.killed += 1
            beat.kill()
        else:
            self.stopped += 1
            beat.signal(signal.SIGTERM)

    def one_event(self) -> None:
        """Let some time pass, then start or end a beat."""
        time.sleep(self._rng.uniform(0.0, 2.0))
        if not self.up or self.down and self._rng.random() < 0.5:
            self.start(self._rng.choice(self.down))
        else:
            self.end_one()

    def stop(self) -> None:
        """Stop those that run, in good order."""
        for number in self.up:
            assert self._at(number).stop() == 0

    def _at(self, number: int) -> Worker:
        beat = self._beats[number]
        assert beat is not None
        return beat


@pytest.mark.timeout(2 * SECONDS + 60)
def test_beats_killed_at_random_fire_each_due_time_once(
    jobs: AppFolder, books: Books, capsys: pytest.CaptureFixture[str]
):
    jobs.env |= declaring(**{name: {**EACH, "schedule": 1} for name in TEN})
    herd = Herd(jobs, books)
    herd.start(*herd.down)
    eventually(lambda: books.all_fired_to(TEN), message="all have fired")
    end, latest = time.monotonic() + SECONDS, 0.0
    while time.monotonic() < end:
        late = time.time() - books.all_fired_to(TEN)
        latest = max(latest, late)
        if late > PATIENCE:
            herd.start(*herd.down)
            books.await_firings(TEN, timeout=20)
        herd.one_event()
    herd.start(*herd.down)
    books.await_firings(TEN, timeout=20)
    herd.stop()
    with capsys.disabled():
        sys.stdout.write(
            f"\nseed {SEED}: {herd.killed} beats killed, {herd.stopped} stopped, of"
            f" these {herd.leaders} led; {len(herd.all)} started; late by up to"
            f" {latest:.1f} s\n"
        )
    assert herd.killed + herd.stopped >= SECONDS / 6
    assert herd.leaders >= SECONDS / 20
    for name in TEN:
        books.assert_each_once(name, 1)
    assert books.names() == set(TEN)
    for beat in herd.all:
        assert "Traceback" not in beat.output


def test_a_leader_frozen_for_ten_seconds_fires_nothing_twice(
    jobs: AppFolder, books: Books
):
    intervals = {"half": 0.5, "tenth": 0.1, "cron": 1}
    jobs.env |= declaring(
        half=EACH,
        tenth={**EACH, "schedule": 0.1},
        cron={**EACH, "schedule": "* * * * * *"},
    )
    beats = [jobs.beat(ready=False) for _ in range(3)]
    for beat in beats:
        beat.await_line("NEXT")
    books.await_firings(intervals)
    frozen = next(beat for beat in beats if beat.pid == books.leader_pid())
    frozen.signal(signal.SIGSTOP)
    at = time.time()
    eventually(lambda: books.leader_pid() not in (frozen.pid, None), TAKES_OVER)
    books.await_firings(intervals, at + 10 - time.time())
    frozen.signal(signal.SIGCONT)
    frozen.await_line("stands by")
    books.await_firings(intervals, 1)
    for beat in beats:
        assert beat.stop() == 0
        assert "Traceback" not in beat.output
    for name, interval in intervals.items():
        books.assert_each_once(name, interval)


def test_another_worker_goes_on_where_one_with_its_beat_was_killed(
    jobs: AppFolder, books: Books
):
    jobs.env |= declaring(
        kept={**EACH, "options": {"queue": "nobodys"}},
        run={**EACH, "schedule": 0.2},
    )
    workers = [jobs.worker("-B", "-c", "1", ready=False) for _ in range(2)]
    books.await_firings(("kept", "run"))
    for worker in workers:
        worker.await_line(" ready.")
    victim = next(worker for worker in workers if worker.pid == books.leader_pid())
    workers.remove(victim)
    victim.kill()
    books.await_firings(("kept", "run"), timeout=TAKES_OVER)
    assert books.leader_pid() == workers[0].pid
    books.await_firings(("kept", "run"), 1)
    rows = books.rows("run")
    assert_on_grid([row.due for row in rows], 200_000, "run")
    for row in rows:
        # The one that ran in the killed worker comes back when its lease has ended.
        eventually(
            lambda job=f"rq:job:{row.job}": (
                books.client.hget(job, "status") == b"finished"
            ),
            20,
        )
    assert workers[0].stop() == 0
    books.assert_each_once("kept", 0.5, "nobodys")
