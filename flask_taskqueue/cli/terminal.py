"""What commands that run until stopped share: their name, their log, their end."""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import socket
import sys
import typing as t
from importlib.metadata import version

import click
from flask import Flask

from .. import joblog
from ..extension import TaskQueue
from .logform import is_terminal, log_json

logger: logging.Logger = logging.getLogger(__name__)

LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error", "critical")

level_option: t.Callable[[t.Any], t.Any] = click.option(
    "-l",
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged.",
)


log_format_option: t.Callable[[t.Any], t.Any] = click.option(
    "--log-format",
    type=click.Choice(("text", "json"), case_sensitive=False),
    default="text",
    show_default=True,
    help="How it is logged; json: an object a line.",
)


def extension_of(app: Flask) -> TaskQueue:
    """The app's TaskQueue.

    :raises click.ClickException: It has none.
    """
    extension = app.extensions.get("taskqueue")
    if not isinstance(extension, TaskQueue):
        raise click.ClickException(f"the app {app.name!r} has no TaskQueue")
    return extension


def process_name(given: str | None) -> str:
    """A name that no other process has, now or later.

    :param given: Its beginning, ``%h`` is the host; ``None`` is the host alone.
    """
    host = socket.gethostname()
    stem = re.sub(r"[^A-Za-z0-9_.@-]", "_", (given or "%h").replace("%h", host))[:100]
    return f"{stem}.{os.getpid()}.{secrets.token_hex(3)}"


def title(name: str) -> str:
    """The first line of a banner."""
    return (
        f"{name}  Flask-TaskQueue {version('Flask-TaskQueue')},"
        f" Python {platform.python_version()}, {platform.platform()}"
    )


def end(ctx: click.Context, code: int) -> t.NoReturn:
    """End the command with this exit code."""
    try:
        # The flask command has an app context around this one: what its teardown
        # functions raise must not take the place of the exit code.
        ctx.find_root().close()
    except Exception:
        logger.exception("Teardown after the command raised")
    sys.exit(code)


def set_up_logging(level: str, form: str) -> None:
    """Let records name their job, and set our level.

    If the app gave the root logger no handler, it gets one, for all that no handler
    of the app shows on the terminal already.

    :param form: ``json`` is the form of all that goes to the terminal; ``text`` leaves
        the app's handlers theirs.
    """
    joblog.name_jobs_in_records()
    number = getattr(logging, level.upper())
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(
            level=number, format="%(asctime)s %(levelname)s %(process)d %(message)s"
        )
        root.handlers[0].addFilter(_not_shown_yet)
    logging.getLogger("flask_taskqueue").setLevel(number)
    if form == "json":
        log_json()


def _not_shown_yet(record: logging.LogRecord) -> bool:
    """Whether no handler on the record's way to the root writes to the terminal.

    Flask gives ``app.logger`` such a handler as long as the root has none: ours
    would show each line again.
    """
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        for handler in logger.handlers:
            if is_terminal(handler) and record.levelno >= handler.level:
                return False
        logger = logger.parent
    return True
