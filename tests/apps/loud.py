"""An app that has set up some logging of its own before a worker does."""

from __future__ import annotations

import logging
import os
import sys

from flask import Flask, current_app
from flask.logging import default_handler

from flask_taskqueue import TaskQueue, get_task_logger

tq = TaskQueue()
logger = get_task_logger("loud.tasks")
library = logging.getLogger("library")
audit = logging.getLogger("audit")


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    outside = {"task_id": "", "task_name": ""}  # a web process knows no jobs
    default_handler.setFormatter(
        logging.Formatter(
            "flask(%(task_id)s %(task_name)s) %(message)s", defaults=outside
        )
    )
    app.logger.warning("the factory speaks")  # Flask gives this logger a handler
    audit.addHandler(logging.FileHandler(os.environ["LOUD_AUDIT"]))
    library.addHandler(logging.NullHandler())  # as libraries do
    if "LOUD_ROOT" in os.environ:
        own = "root(%(task_id)s) %(message)s"
        logging.basicConfig(stream=sys.stdout, level="INFO", format=own)
    tq.init_app(app)
    return app


@tq.task
def speak() -> None:
    current_app.logger.info("by the app")
    current_app.logger.getChild("part").info("by a part")
    library.info("by a library", extra={"task_id": 7})
    audit.info("by the audit")
    logger.info("by the task")


@tq.task(time_limit=None, soft_time_limit=5)
def soft() -> None: ...


if "LOUD_LIMIT" in os.environ:

    @tq.task(time_limit=float(os.environ["LOUD_LIMIT"]))
    def slow() -> None: ...

    @tq.task(time_limit=60)
    def slower() -> None: ...
