"""A worker and its producers reach Redis by TLS, and trust one certificate only."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskqueue.errors import BrokerUnavailable

from ..processes import AppFolder
from ..servers import Server
from ..tls import self_signed, tls_before
from .live import calling

JOBS = 100


class Tls(t.NamedTuple):
    """A way to the shared server."""

    url: str
    certificate: Path


@pytest.fixture
def tls(tmp_path: Path, server: Server) -> Iterator[Tls]:
    certificate = self_signed(tmp_path)
    with tls_before(server.socket, certificate) as port:
        yield Tls(f"rediss://127.0.0.1:{port}/0", certificate)


def test_jobs_come_through_by_tls(jobs: AppFolder, tls: Tls):
    jobs.env["FLASK_TASKQUEUE_URL"] = f"{tls.url}?ssl_ca_certs={tls.certificate}"
    with calling(jobs) as tasks:
        worker = jobs.worker("-c", "2")
        results = tasks.add.delay_many([(number, 1) for number in range(JOBS)])
        # Larger than what one record of TLS holds.
        large = tasks.whoami.delay("x" * 500_000)
        later = tasks.add.apply_async((1, 2), countdown=0.2)
        assert [r.get(timeout=15) for r in results] == [n + 1 for n in range(JOBS)]
        assert len(large.get(timeout=15)["args"][0]) == 500_000
        assert later.get(timeout=15) == 3
        assert "Traceback" not in worker.output
        assert worker.stop() == 0


def test_a_certificate_that_nobody_vouches_for_is_refused(jobs: AppFolder, tls: Tls):
    with calling(jobs) as tasks:
        app = tasks.create_app(TASKQUEUE_URL=tls.url)
        with app.app_context():
            with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
                tasks.add.delay(1, 2)
            tasks.tq.state.broker.close()
