"""Runs commands of an app in the test's process, stdout and stderr apart."""

from __future__ import annotations

import inspect
import typing as t

from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskCliRunner

# Before 8.2 click mixes the two streams unless told otherwise.
_APART: dict[str, t.Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters
    else {}
)  # fmt: skip


def runner(app: Flask) -> FlaskCliRunner:
    """Invokes the app's commands."""
    return FlaskCliRunner(app, **_APART)
