"""An app whose task tells what reached it of the page, or shell, that enqueued it."""

from __future__ import annotations

import typing as t
from contextvars import ContextVar
from datetime import date

import click
from flask import Flask, g, has_request_context, request, url_for
from flask_babel import Babel, force_locale, format_date, get_locale
from flask_login import LoginManager, UserMixin, current_user, login_user
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_taskqueue import TaskQueue, current_task

tq = TaskQueue()
tq.carrier("locale", capture=lambda: str(get_locale()), restore=force_locale)

outside: ContextVar[str] = ContextVar("outside", default="unset")


class User(UserMixin):
    """Whoever has this id."""

    def __init__(self, name: str) -> None:
        self.id = name


def create_app(**config: t.Any) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(SECRET_KEY="of sessions", **config)
    # In a worker: seen by the command, and by none of its jobs.
    outside.set("by the command")
    tq.init_app(app)
    Babel(app, locale_selector=choose_locale)
    LoginManager(app).user_loader(User)
    proxied = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)
    app.wsgi_app = proxied  # type: ignore[method-assign]
    app.post("/start")(start)
    app.cli.command("enqueue")(enqueue)
    return app


def choose_locale() -> str | None:
    """There is no request in a shell."""
    return request.accept_languages.best_match(["de", "cs"]) if request else None


def start() -> dict[str, t.Any]:
    login_user(User("carol"))
    g.mine = 1
    names = ("tell", "tell_within", "relay")
    jobs = {name: globals()[name].delay().id for name in names}
    return {"url": url_for("start", _external=True), "month": month(), "jobs": jobs}


def enqueue() -> None:
    """Enqueue from the command line."""
    click.echo(tell.delay().id)


def month() -> str:
    return format_date(date(2026, 3, 1), "MMMM")


def told() -> dict[str, t.Any]:
    user = current_user._get_current_object()
    seen = {
        "url": url_for("start", _external=True),
        "month": month(),
        "headers": dict(current_task.request.carried),
        "request": has_request_context(),
        "user": type(user).__name__,
        "g": sorted(name for name in g if not name.startswith("_")),
        "outside": outside.get(),
    }
    g.left = 1
    outside.set("by the job before")
    return seen


tell = tq.task(name="tell")(told)
tell_within = tq.task(name="tell_within", request_context=True)(told)


@tq.task(name="relay")
def relay() -> str:
    return tell.delay().id
