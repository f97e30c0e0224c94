"""What to say where ``TASKQUEUE_URL`` is missing, or is where nobody reads it."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

KEY = "TASKQUEUE_URL"
PREFIXED = f"FLASK_{KEY}"

_READ = "call app.config.from_prefixed_env() before init_app(app)"

SERVERS = ("gunicorn", "uwsgi", "mod_wsgi", "waitress", "hypercorn", "uvicorn")
"""Modules that are loaded in a process of a web server, not of development."""


def unread(environ: Mapping[str, str]) -> str:
    """What is wrong where the environment has the URL and the configuration has not;
    ``""`` where it has none."""
    if environ.get(PREFIXED):
        return f"{PREFIXED} is in the environment, and app.config has no {KEY}: {_READ}"
    if environ.get(KEY):
        return (
            f"{KEY} is in the environment, which is not read by that name: call it"
            f" {PREFIXED}, and {_READ}"
        )
    return ""


def needed(environ: Mapping[str, str]) -> str:
    """Why nothing can be done without it in this process, and what to do."""
    hint = unread(environ) or (
        f"set app.config[{KEY!r}], e.g. to 'redis://localhost:6379/0'; or {PREFIXED}"
        f" in the environment, and {_READ}"
    )
    return (
        f"{KEY} is not set. While developing (debug, testing, the flask command) a"
        " private server is started; any other process needs the URL of the Redis its"
        f" workers use: {hint}"
    )


def warning(
    environ: Mapping[str, str], modules: t.Container[str], developing: bool
) -> str:
    """What to warn of when an app without the URL is made; ``""`` for nothing.

    :param modules: Names of those that are loaded.
    :param developing: This process does without it.
    """
    if not developing and any(name in modules for name in SERVERS):
        return needed(environ)
    return unread(environ)
