"""Replaces the process of a command by one that gevent patched before all else."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

import click

PATCHED = ("socket", "select", "threading", "time")
"""Modules by which to see whether a process is patched."""


def ensure_gevent(ctx: click.Context) -> None:
    """Return in a process that gevent has patched; replace another one.

    It has to begin anew: when a command of an app runs, the app's modules are loaded,
    and keep what they have imported.

    :raises click.UsageError: gevent is not installed, or the process was not started
        by this command.
    """
    if importlib.util.find_spec("gevent") is None:
        raise click.UsageError(
            "-P gevent needs gevent: pip install 'Flask-TaskQueue[gevent]'"
        )
    from gevent import monkey

    if all(map(monkey.is_module_patched, PATCHED)):
        return
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = None if spec is None else spec.name.removesuffix(".__main__")
    by_command = ctx.info_name in sys.argv[1:]
    if not by_command or (module is None and not os.path.isfile(sys.argv[0])):
        raise click.UsageError(
            "-P gevent starts the process anew: run it by the flask command"
        )
    command = patched_command(sys.orig_argv, len(sys.argv) - 1, module)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - itself


def patched_command(
    command: Sequence[str], arguments: int, module: str | None
) -> list[str]:
    """The arguments of the interpreter for the same command, patched.

    :param command: As ``sys.orig_argv``.
    :param arguments: How many of the last are the command's own.
    :param module: Name of the module that ``-m`` runs; ``None`` for a script.
    """
    head, own = command[1 : len(command) - arguments], command[-arguments:]
    if module is None:
        *options, script = head
        program = [script]
    else:
        options = list(head[:-2] if head[-2:-1] == ["-m"] else head[:-1])
        program = ["--module", module]
    return [*options, "-m", "gevent.monkey", *program, *own]
