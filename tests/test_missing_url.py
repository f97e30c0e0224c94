"""``TASKQUEUE_URL`` is missing: who is told what, and when."""

from __future__ import annotations

import sys
import types

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import TaskQueue
from flask_taskqueue.errors import ConfigError

URL = "redis://localhost:6379/0"


@pytest.fixture(autouse=True)
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flask command, and nothing in the environment."""
    for name in ("FLASK_RUN_FROM_CLI", "FLASK_TASKQUEUE_URL", "TASKQUEUE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "gunicorn", raising=False)


def made(**config: object) -> tuple[Flask, TaskQueue]:
    app, tq = Flask(__name__), TaskQueue()
    app.config.update(config)
    tq.init_app(app)
    return app, tq


def refusal(app: Flask, tq: TaskQueue) -> str:
    """What the first use says."""
    with app.app_context(), pytest.raises(ConfigError) as caught:
        tq.send_task("add", (1, 2))
    return str(caught.value)


def test_the_first_use_in_production_says_both_names_and_what_reads_them():
    text = refusal(*made())
    assert "TASKQUEUE_URL is not set" in text
    assert "app.config['TASKQUEUE_URL']" in text
    assert "FLASK_TASKQUEUE_URL in the environment" in text
    assert "from_prefixed_env() before init_app" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("FLASK_TASKQUEUE_URL", "FLASK_TASKQUEUE_URL is in the environment, and app"),
        ("TASKQUEUE_URL", "not read by that name: call it FLASK_TASKQUEUE_URL"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_url_that_nobody_reads_is_named_when_the_app_is_made(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    says: str,
    debug: bool,
):
    monkeypatch.setenv(name, "redis://:s3cret@localhost/0")
    app, tq = made(DEBUG=debug)
    (record,) = caplog.records
    assert says in record.message
    assert "call app.config.from_prefixed_env() before init_app(app)" in record.message
    assert "s3cret" not in record.message
    if not debug:
        assert says in refusal(app, tq)


@pytest.mark.parametrize("config", [{"TASKQUEUE_URL": URL}, {}])
def test_a_url_that_is_read_and_an_environment_without_one_warn_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    config: dict[str, object],
):
    if config:
        monkeypatch.setenv("FLASK_TASKQUEUE_URL", URL)
    made(**config)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        ({}, True),
        ({"TASKQUEUE_URL": URL}, False),
        ({"TASKQUEUE_EAGER": True}, False),
        ({"TESTING": True}, False),
        ({"DEBUG": True}, False),
    ],
)
def test_a_web_server_is_warned_when_it_starts(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    config: dict[str, object],
    warned: bool,
):
    monkeypatch.setitem(sys.modules, "gunicorn", types.ModuleType("gunicorn"))
    made(**config)
    found = ["TASKQUEUE_URL is not set" in record.message for record in caplog.records]
    assert found == [True] * warned


def test_a_call_on_commit_is_refused_before_the_commit():
    app, tq = made(SQLALCHEMY_DATABASE_URI="sqlite://")
    db = SQLAlchemy(app)

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    @tq.task
    def bill(order: int) -> None: ...

    with app.app_context():
        db.create_all()
        db.session.add(Order(id=1))
        db.session.flush()
        with pytest.raises(ConfigError, match="TASKQUEUE_URL is not set"):
            bill.delay_on_commit(1)
        db.session.rollback()
        assert db.session.get(Order, 1) is None
        app.config["TASKQUEUE_EAGER"] = True
        db.session.add(Order(id=2))
        db.session.flush()
        result = bill.delay_on_commit(2)
        db.session.commit()
        assert result.successful()
        db.session.remove()
        db.drop_all()
        db.engine.dispose()
