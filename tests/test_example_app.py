"""The example app's own tests, written with the testing kit."""

from __future__ import annotations

import io
import re
import shutil
import sys
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, Envelope, Session
from flask import Flask
from flask.testing import FlaskClient

from flask_taskqueue import AsyncResult
from flask_taskqueue.testing import captured, drain

from .commands import runner
from .servers import free_port

EXAMPLE = Path(__file__).parents[1] / "example_app"


class Mailbox(Sink):
    """An SMTP server that refuses as many mails as it is told, and keeps the rest."""

    def __init__(self) -> None:
        self.port = free_port()
        self.refuse = 0
        self.mails: list[str] = []

    async def handle_DATA(  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.refuse:
            self.refuse -= 1
            return "451 come back later"
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content.decode())
        return "250 OK"


@pytest.fixture
def mailbox() -> t.Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@pytest.fixture
def app(
    tmp_path: Path,
    redis_url: str,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
) -> t.Iterator[Flask]:
    shutil.copytree(EXAMPLE, tmp_path / "example_app")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FLASK_TASKQUEUE_URL", redis_url)
    monkeypatch.setenv("FLASK_MAIL_PORT", str(mailbox.port))
    import example_app

    app = example_app.create_app()
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()
        app.extensions["taskqueue"].state.broker.close()
    for name in [name for name in sys.modules if name.startswith("example_app")]:
        del sys.modules[name]


def upload(client: FlaskClient, host: str = "localhost", **form: str) -> str:
    """Upload a file; the URL of its report."""
    file = (io.BytesIO(b"n,word\n1,a\n3,\n"), "a file.csv")
    url = f"http://{host}/reports"
    answer = client.post(url, data={"file": file, **form})
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def test_an_upload_enqueues_a_summary_with_the_mail_behind_it(app: Flask) -> None:
    with captured(app) as jobs:
        location = upload(app.test_client(), email="you@example.org")
    report = location.rpartition("/")[2]
    assert [(job.task, job.args) for job in jobs] == [
        ("example_app.tasks.summarize", [report])
    ]
    assert [link.task for link in jobs[0].links] == ["example_app.tasks.send_link"]


def test_a_report_shows_numbers_and_a_chart_when_its_job_has_ended(app: Flask) -> None:
    client = app.test_client()
    location = upload(client)
    assert 'role="status"' in client.get(location).text
    assert drain(app) == 1
    page = client.get(location).text
    assert "2 columns of 2 rows" in page
    assert 'aria-label="Histogram of n"' in page


def test_the_mail_has_the_external_url_of_the_report(
    app: Flask, mailbox: Mailbox
) -> None:
    client = app.test_client()
    location = upload(client, "reports.example.org", email="you@example.org")
    assert drain(app) == 2
    (mail,) = mailbox.mails
    assert "To: you@example.org" in mail
    assert f"http://reports.example.org{location}" in mail


def test_a_mail_server_that_refuses_is_tried_again(
    app: Flask, mailbox: Mailbox
) -> None:
    mailbox.refuse = 2
    upload(app.test_client(), email="you@example.org")
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert drain(app, now=later) == 4
    assert len(mailbox.mails) == 1


def test_a_file_that_is_no_text_fails_and_the_page_says_so(app: Flask) -> None:
    client = app.test_client()
    file = (io.BytesIO(b"\xff\xfe\x00"), "x.csv")
    location = client.post("/reports", data={"file": file}).headers["Location"]
    drain(app)
    with app.app_context():
        assert AsyncResult(location.rpartition("/")[2]).state == "FAILURE"
    assert "Failed" in client.get(location).text


def test_the_first_page_shows_the_last_heartbeat(app: Flask) -> None:
    client = app.test_client()
    assert "Last heartbeat: none yet" in client.get("/").text
    with app.app_context():
        app.extensions["taskqueue"].send_task("example_app.tasks.heartbeat")
    assert drain(app) == 1
    assert f"Last heartbeat: {datetime.now(UTC):%Y-%m-%d}" in client.get("/").text


def test_old_reports_are_cleaned_up_with_their_files(app: Flask) -> None:
    from example_app.models import Report, db

    client = app.test_client()
    old, new = (upload(client).rpartition("/")[2] for _ in range(2))
    drain(app)
    with app.app_context():
        report = db.session.get(Report, old)
        assert report is not None
        report.created_at -= timedelta(days=31)
        db.session.commit()
        app.extensions["taskqueue"].send_task("example_app.tasks.clean_up")
    assert drain(app) == 1
    assert client.get(f"/reports/{old}").status_code == 404
    assert client.get(f"/reports/{new}").status_code == 200
    files = [path.stem for path in Path(app.config["DATA_FOLDER"]).iterdir()]
    assert files == [new]


def test_a_beat_accepts_the_entries(app: Flask) -> None:
    checked = runner(app).invoke(args=["beat", "check"])
    assert checked.exit_code == 0
    assert re.search(r"clean-up .* 0 3 \* \* \* \(UTC\)", checked.stdout)
    assert re.search(r"heartbeat .* every 60 s", checked.stdout)


def test_a_form_without_a_file_is_refused(app: Flask) -> None:
    assert app.test_client().post("/reports", data={}).status_code == 400
