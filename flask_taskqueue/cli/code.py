"""``flask tasks`` on code: the tasks that are registered."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import fields

import click
from flask import Flask
from flask.globals import current_app

from ..extension import TaskQueue
from ..options import TaskOptions
from ..registry import AnyTask
from .printing import echo_json, echo_table, json_option

_DEFAULTS = TaskOptions()


def loaded_tasks() -> tuple[TaskQueue, Mapping[str, AnyTask]]:
    """The current app's TaskQueue, and its tasks when all modules are imported.

    :raises click.ClickException: A module of ``TASKQUEUE_IMPORTS`` is missing.
    :raises ImportError: An import inside a module with tasks fails.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    extension: TaskQueue = app.extensions["taskqueue"]
    load_tasks(extension, app)
    return extension, extension.tasks


def load_tasks(extension: TaskQueue, app: Flask) -> None:
    """Import the modules with tasks of an app.

    :raises click.ClickException: A module of ``TASKQUEUE_IMPORTS`` is missing.
    :raises ImportError: An import inside a module with tasks fails.
    """
    try:
        extension.load_tasks(app)
    except ModuleNotFoundError as error:
        for name in extension.state_of(app).config.imports:
            # Itself, or a package above it: not what it imports.
            if f"{name}.".startswith(f"{error.name}."):
                raise click.ClickException(
                    f"expected TASKQUEUE_IMPORTS to name modules, cannot find {name!r}"
                ) from error
        raise


@click.command("registered")
@json_option
def registered(json: bool) -> None:
    """Show the tasks a worker of this app would know, with their own options."""
    _, tasks = loaded_tasks()
    rows = [(name, _own_options(tasks[name].options)) for name in sorted(tasks)]
    if json:
        echo_json({"tasks": [{"name": n, "options": given} for n, given in rows]})
        return
    echo_table(("TASK", "OPTIONS"), [(name, _brief(given)) for name, given in rows])


def _own_options(options: TaskOptions) -> dict[str, t.Any]:
    """Those of its own: not those left to the app's configuration or to ours."""
    given = ((row.name, getattr(options, row.name)) for row in fields(options))
    return {
        name: _plain(value)
        for name, value in given
        if value != getattr(_DEFAULTS, name)
    }


def _plain(value: t.Any) -> t.Any:
    """A value as JSON has it; classes by their names."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, type):
        module = "" if value.__module__ == "builtins" else f"{value.__module__}."
        return module + value.__qualname__
    return value


def _brief(options: Mapping[str, t.Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in options.items())


def _text(value: t.Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
