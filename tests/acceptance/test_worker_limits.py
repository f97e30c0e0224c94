"""Time limits that a worker gives to jobs without limits of their own."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from flask_taskqueue.errors import SoftTimeLimitExceeded, TimeLimitExceeded

from ..processes import AppFolder
from ..servers import eventually


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[t.Any]:
    """The tasks of ``tests/apps/jobs.py``, of an app with a limit of its own."""
    tasks = jobs.module()
    url = jobs.env["FLASK_TASKQUEUE_URL"]
    app = tasks.create_app(TASKQUEUE_URL=url, TASKQUEUE_TIME_LIMIT=600)
    with app.app_context():
        yield tasks


def test_a_workers_limits_are_for_jobs_that_name_none(
    jobs: AppFolder, tasks: t.Any, tmp_path: Path
):
    paths = [tmp_path / name for name in ("soft", "hard", "own", "never")]
    given: list[dict[str, float | None]] = [
        {},
        {"soft_time_limit": None},
        {"soft_time_limit": None, "time_limit": 60},
        {"soft_time_limit": None, "time_limit": None},
    ]
    soft, hard, *others = (
        tasks.hold.apply_async((str(path),), **options)
        for path, options in zip(paths, given, strict=True)
    )
    worker = jobs.worker(
        "-c", "4", "--time-limit", "0.6", FLASK_WORKER_SOFT_TIME_LIMIT="0.3"
    )
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=15)
    with pytest.raises(TimeLimitExceeded, match=r"0\.6 s"):
        hard.get(timeout=15)
    for path in paths[2:]:
        eventually(path.exists, message="the job starts")
        path.unlink()
    assert [result.get(timeout=15) for result in others] == ["released"] * 2
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-P", "solo", "--time-limit", "5"), "solo cannot stop a running job"),
        (("--soft-time-limit", "0"), "0"),
        (("--max-tasks-per-child", "0"), "0"),
        (("--max-memory-per-child", "all"), "all"),
        (("--log-format", "xml"), "xml"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_kept_are_wrong_usage(
    jobs: AppFolder, options: tuple[str, ...], message: str
):
    done = jobs.flask("worker", *options)
    assert done.returncode == 2
    assert options[-2] in done.stderr
    assert message in done.stderr
