"""``docs/cli.md`` has every command, option and environment variable there is."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from flask_taskqueue import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

Row = tuple[set[str], str]
"""Names of an option, and its environment variable."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Commands with options of their own, as they are called."""
    for name in cli.GROUPS:
        group: click.Group = import_module(f"{cli.__name__}.{name}").group
        if group.params:
            yield f"flask {name}", group
        for sub, command in sorted(group.commands.items()):
            yield f"flask {name} {sub}", command


COMMANDS = dict(commands())


def documented(name: str) -> list[Row]:
    """The rows of the options below a command's heading."""
    section = PAGE.read_text("utf-8").partition(f"\n## {name}\n")[2]
    section = section.partition("\n## ")[0]
    pattern = r"^\| (`-[^|]+) \| `(FLASK_\w+)` \|"
    found = re.findall(pattern, section, re.MULTILINE)
    return [
        (set(re.findall(r"`(-[^`]+)`", names)), variable) for names, variable in found
    ]


def existing(name: str, command: click.Command) -> list[Row]:
    """The same of the command itself, by click's rule for names of variables. Hidden
    ones are for measurements."""
    prefix = re.sub(r"\W", "_", name).upper()
    return [
        (set(option.opts), f"{prefix}_{t.cast(str, option.name).upper()}")
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_docs(name: str):
    assert documented(name) == existing(name, COMMANDS[name])


def test_every_command_in_the_docs_exists():
    headings = re.findall(r"^## (flask .+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


def test_every_group_is_in_the_docs():
    names = re.findall(r"^\| `flask (\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(cli.GROUPS)


@pytest.mark.parametrize("code", [0, 1, 2, 69, 70, 75])
def test_every_exit_code_is_in_the_docs(code: int):
    assert f"\n| {code} | " in PAGE.read_text("utf-8")
