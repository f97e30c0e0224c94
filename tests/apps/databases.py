"""An app with a database, which it uses before a worker forks its children."""

from __future__ import annotations

import os
import sqlite3
import typing as t

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import TaskQueue

goodbyes: list[int] = []
"""Processes whose connections were collected in this one."""


class Polite(sqlite3.Connection):
    """Like some drivers' connections, it says goodbye when it is collected."""

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_by = os.getpid()

    def __del__(self) -> None:
        goodbyes.append(self.opened_by)


db = SQLAlchemy()
tq = TaskQueue()


class Order(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Line(db.Model):
    __bind_key__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        options = {"connect_args": {"factory": Polite}}
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    db.init_app(app)
    tq.init_app(app)
    app.add_url_rule("/orders/<name>", view_func=order, methods=["POST"])
    with app.app_context():
        db.create_all()
        app.config["LOADED_OVER"] = [_backend(bind) for bind in (None, "log")]
    return app


def order(name: str) -> tuple[str, int]:
    """Store an order and have it shipped, unless a name of it is taken or odd."""
    stored = Order(name=name)
    db.session.add(stored)
    db.session.flush()
    result = ship.delay_on_commit(stored.id)
    if name.startswith("odd"):
        db.session.rollback()
        return result.id, 400
    db.session.commit()
    return result.id, 202


def _backend(bind: str | None) -> int:
    """The server's process behind a connection; 0 at SQLite."""
    engine = db.engines[bind]
    if engine.dialect.name != "postgresql":
        return 0
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


@tq.task
def ship(id: int) -> str:
    found = db.session.get(Order, id)
    assert found is not None, "the job runs before the commit"
    db.session.add(Line(text=f"shipped {found.name}"))
    db.session.commit()
    return found.name


@tq.task
def loaded_over() -> list[int]:
    """The server's processes behind the factory's connections."""
    found: list[int] = current_app.config["LOADED_OVER"]
    return found


@tq.task
def compute(number: int) -> tuple[int, int, int, int]:
    """Ask each database something; who asked, and who answered."""
    asked, log = sa.text("SELECT :n"), {"bind": db.engines["log"]}
    total = 0
    for step in range(20):
        total += db.session.scalar(asked, {"n": number + step}) or 0
        total += db.session.scalar(asked, {"n": 1}, bind_arguments=log) or 0
    return total, os.getpid(), _backend(None), _backend("log")


@tq.task
def fail(name: str, *, flush: bool) -> None:
    """Leave a transaction behind, broken by the database or not."""
    db.session.add(Order(name=name))
    db.session.add(Order(name=name))
    if flush:
        db.session.flush()
    raise LookupError(name)


@tq.task
def leave_open(name: str) -> int:
    """Write without a commit; how many orders this transaction sees."""
    db.session.add(Order(name=name))
    return db.session.scalar(sa.select(sa.func.count(Order.id))) or 0


@tq.task
def goodbyes_to_others() -> list[int]:
    return [pid for pid in goodbyes if pid != os.getpid()]


@tq.task
def names() -> list[str]:
    return list(db.session.scalars(sa.select(Order.name).order_by(Order.name)))
