"""Commands of the ``flask`` command line, loaded when they are used."""

from __future__ import annotations

import logging
import typing as t
from importlib import import_module

import click
from flask import Flask

logger: logging.Logger = logging.getLogger(__name__)

GROUPS = {
    "worker": "Run a worker.",
    "beat": "Run a beat: enqueue entries when they are due.",
    "tasks": "See and change jobs and queues.",
}
"""Names of the groups, each in a module of its own, and what help says of them."""


class LazyGroup(click.Group):
    """A group whose module is imported when somebody calls it.

    A web process has these commands, too, and should not load a worker for them.
    """

    def __init__(self, name: str, help: str) -> None:
        super().__init__(name, help=help, short_help=help)
        self._module = f"{__name__}.{name}"

    def make_context(
        self, info_name: str | None, args: t.Any, *more: t.Any, **extra: t.Any
    ) -> click.Context:
        """Go on in the real group."""
        group: click.Group = import_module(self._module).group
        return group.make_context(info_name, args, *more, **extra)


def add_commands(app: Flask) -> None:
    """Add the groups to an app's commands, leaving names that are taken."""
    for name, help in GROUPS.items():
        if name in app.cli.commands:
            logger.warning(
                "The command 'flask %s' is the app's own: TaskQueue's is left out", name
            )
        else:
            app.cli.add_command(LazyGroup(name, help))
