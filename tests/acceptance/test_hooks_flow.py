"""Hooks and signals around jobs of a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flask_taskqueue.errors import SoftTimeLimitExceeded, TimeLimitExceeded

from ..processes import AppFolder
from .live import calling


@pytest.fixture
def hooked(tmp_path: Path, redis_url: str) -> Iterator[AppFolder]:
    """A folder with ``tests/apps/hooked.py`` on the shared server."""
    folder = AppFolder(tmp_path, redis_url, "hooked")
    yield folder
    folder.close()


def noted(folder: AppFolder) -> list[tuple[int, str, str]]:
    """Process, subject and what was noted, in order."""
    lines = (folder.folder / "ledger").read_text().splitlines()
    rows = [line.split(" ", 2) for line in lines]
    return [(int(pid), subject, what) for pid, subject, what in rows]


def about(folder: AppFolder, pid: int, *subjects: str) -> list[str]:
    """What a process noted about tasks."""
    return [what for at, subject, what in noted(folder)
            if at == pid and subject in subjects]  # fmt: skip


def test_each_kind_of_end_is_told_in_order_and_nothing_raised_changes_it(
    hooked: AppFolder, client: redis.Redis
):
    with calling(hooked) as module:
        expired = module.slow.apply_async(expires=0.001)
        added = module.add.apply_async((1, 2), link=module.add.s(10))
        flaky, failed = module.flaky.delay(), module.fail.delay()
        revoked = module.slow.delay()
        revoked.revoke()
        client.hset("rq:job:odd", "tq_task", "odd")
        client.rpush("rq:queue:default", "odd")
        worker = hooked.worker("-c", "1", "--burst", ready=False)
        assert worker.process.wait(30) == 0
        (child,) = added.children
        assert (added.get(), child.get(), flaky.get()) == (3, 13, 1)
        assert isinstance(failed.get(propagate=False), ValueError)
        assert (expired.state, revoked.state) == ("REVOKED", "REVOKED")
    (slot,) = {pid for pid, _, what in noted(hooked) if what.startswith("job_started")}
    assert slot != worker.pid
    success = [
        "job_started STARTED hooked", "before_start", "on_success",
        "job_succeeded SUCCESS hooked", "after_return SUCCESS",
    ]  # fmt: skip
    assert about(hooked, slot, "add") == [
        *success, "job_enqueued PENDING hooked", *success,
    ]  # fmt: skip
    assert about(hooked, slot, "flaky") == [
        "job_started STARTED hooked", "before_start", "on_retry",
        "job_retried RETRY hooked", *success,
    ]  # fmt: skip
    assert about(hooked, slot, "fail") == [
        "job_started STARTED hooked", "before_start", "on_failure",
        "job_failed FAILURE hooked", "after_return FAILURE",
    ]  # fmt: skip
    assert about(hooked, slot, "slow") == ["job_revoked REVOKED hooked"]
    assert about(hooked, slot, "odd") == ["job_failed FAILURE hooked"]
    assert about(hooked, slot, "ValueError") == ["teardown"]
    caller = noted(hooked)[0][0]
    assert about(hooked, caller, "add", "slow") == [
        "job_enqueued PENDING hooked",
        "job_enqueued PENDING hooked",
        "job_enqueued PENDING hooked",
        "job_revoked REVOKED hooked",
    ]
    for text in (
        f"A receiver of job-failed raised, job {failed.id}",
        f"Hook after_return of job {added.id} raised",
    ):
        assert text in worker.output


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_s_own_signals_come_from_its_processes(hooked: AppFolder, pool: str):
    worker = hooked.worker("-P", pool, "-c", "1", "-n", "mine")
    children = worker.children
    assert worker.stop() == 0
    rows = [(pid, what) for pid, subject, what in noted(hooked)
            if subject.startswith("mine")]  # fmt: skip
    slot = children[0] if pool == "prefork" else worker.pid
    assert rows == [
        (slot, "worker_process_init False"),
        (worker.pid, "worker_ready False"),
        (worker.pid, "worker_shutdown False"),
    ]
    assert "A receiver of worker-ready raised" in worker.output


def test_hooks_are_a_part_of_the_job(hooked: AppFolder):
    """Limits cover them, and so does what happens to a job whose process dies."""
    with calling(hooked) as module:
        patient, mortal = module.patient.delay(), module.mortal.delay()
        endless = module.endless.apply_async(time_limit=0.5)
        hooked.worker("-c", "1", ready=False)
        with pytest.raises(SoftTimeLimitExceeded):
            patient.get(timeout=30)
        with pytest.raises(TimeLimitExceeded):
            endless.get(timeout=30)
        assert mortal.get(timeout=30) == "recovered 1"
    rows = [(pid, what) for pid, subject, what in noted(hooked) if subject == "mortal"]
    first, second = (pid for pid, what in rows if what.startswith("job_started"))
    assert about(hooked, first, "mortal")[-1] == "on_success"
    assert about(hooked, second, "mortal")[-1] == "after_return SUCCESS"
