"""An app that says which package, and which server, its processes use."""

from __future__ import annotations

import os
import sys
import typing as t

from flask import Flask, Response

import flask_taskqueue
from flask_taskqueue import TaskQueue

tq = TaskQueue()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    tq.init_app(app)

    @app.post("/start")
    def start() -> Response:
        return tq.accepted(where.delay())

    @app.get("/where")
    def here() -> dict[str, t.Any]:
        return where()

    return app


@tq.task
def where() -> dict[str, t.Any]:
    return {
        "file": flask_taskqueue.__file__,
        "executable": sys.executable,
        "folder": os.getcwd(),
        "server": tq.state.url,
        "pid": os.getpid(),
    }
