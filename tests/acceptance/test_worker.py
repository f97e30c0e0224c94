"""What a user of ``flask worker`` sees."""

from __future__ import annotations

from ..processes import AppFolder


def test_a_job_runs_in_a_worker_and_its_result_comes_back(jobs: AppFolder):
    worker = jobs.worker("-c", "1")
    module = jobs.module()
    with module.create_app(TASKQUEUE_URL=jobs.env["FLASK_TASKQUEUE_URL"]).app_context():
        result = module.add.delay(1, 2)
        assert result.get(timeout=10) == 3
        assert result.state == "SUCCESS"
    assert worker.stop() == 0
    assert f"Task jobs.add[{result.id}] succeeded in" in worker.output
