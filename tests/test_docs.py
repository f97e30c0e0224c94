"""What the README and the pages of ``docs`` show, works.

The blocks of a page belong together. Its ``python`` blocks run in order, in one
namespace, as in a ``flask shell``: in a process of their own, whose folder is empty at
first, with ``FLASK_TASKQUEUE_URL`` in its environment. A block that names a file, by a
first line such as ``# app.py`` or after a sentence that ends in "in ``app.py``:", is
written to that file; a Python one is then imported from there, and its names are known
to the blocks that follow. Test modules and ``conftest.py`` are left to pytest, which
runs at the end of a page that has some. ``py`` is for code of other libraries: it
compiles.

Commands of ``flask`` in ``console`` and ``sh`` blocks exist and have the options that
are shown. Blocks in a format that can be read (YAML, INI, TOML, JSON, Jinja) can be.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
import typing as t
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import pytest
import yaml
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from flask_taskqueue import TaskQueue

from .snippet_runner import is_for_pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
RUNNER = Path(__file__).with_name("snippet_runner.py")

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<source>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
FILE_BEFORE = re.compile(r"\b[Ii]n\s+`([\w./-]+)`:\s*\Z")
FILE_WITHIN = re.compile(r"(?:#|//|<!--|\{#) ([\w./-]+\.\w+)(?: -->| #\})?\n")

# Other languages have nothing to be checked.
LANGUAGES = {
    *("python", "py", "console", "sh", "ini", "yaml", "toml", "json", "jinja"),
    *("html", "js", "css", "dockerfile", "nginx", "text", "sql"),
}


@dataclass(frozen=True)
class Block:
    """One fenced block.

    :param line: Of its fence, from 1.
    :param file: Where it is to be written; ``""`` is nowhere.
    """

    page: Path
    line: int
    language: str
    source: str
    file: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        source = textwrap.dedent(found["source"])
        before = text[: found.start()]
        named = FILE_WITHIN.match(source) or FILE_BEFORE.search(before)
        yield Block(
            page,
            before.count("\n") + 1,
            found["language"].strip(),
            source,
            named[1] if named else "",
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def cases(*languages: str) -> pytest.MarkDecorator:
    """One case for each block in one of these languages."""
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=str)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path):
    used = {block.language for block in blocks_of(page)}
    assert used <= LANGUAGES
    # A fence the pattern does not see would not be tested.
    assert page.read_text("utf-8").count("```") == 2 * len(list(blocks_of(page)))


@pytest.mark.parametrize(
    "page",
    [x for x in PAGES if any(block.language == "python" for block in blocks_of(x))],
    ids=lambda page: page.name,
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, redis_url: str):
    blocks = list(blocks_of(page))
    told = {"page": str(page), "blocks": [asdict(x) | {"page": ""} for x in blocks]}
    run(tmp_path, redis_url, "-P", str(RUNNER), input=json.dumps(told))
    if any(is_for_pytest(block.file) for block in blocks):
        run(tmp_path, redis_url, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def run(folder: Path, url: str, *command: str, input: str | None = None) -> None:
    """Run Python in a folder, with a user's environment; warnings are errors."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLASK_", "TASKQUEUE_", "PYTHON", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env={**env, "FLASK_TASKQUEUE_URL": url, "FLASK_RUN_FROM_CLI": "true"},
        input=input,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@cases("py")
def test_code_of_others_compiles(block: Block):
    compile("\n" * block.line + block.source, str(block.page), "exec")


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block, each as its words."""
    lines = block.source.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= set("();<>|&"):
                yield command
                command = []
            else:
                command.append(word)
        yield command


def flask_arguments(block: Block) -> Iterator[list[str]]:
    """What follows ``flask`` in a block, without what says which app is meant."""
    for words in commands(block):
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
        if words and Path(words[0]).name == "flask":
            rest = words[1:]
            while rest and rest[0] in ("--app", "-A", "--env-file", "--debug"):
                rest = rest[1 if rest[0] == "--debug" else 2 :]
            # The example's own command, which continuous integration runs.
            if rest and rest[0] != "demo":
                yield rest


@pytest.mark.parametrize(
    ("block", "arguments"),
    [
        pytest.param(block, arguments, id=f"{block} {' '.join(arguments)}")
        for block in BLOCKS
        if block.language in ("console", "sh")
        for arguments in flask_arguments(block)
    ],
)
def test_a_command_exists_and_has_these_options(block: Block, arguments: list[str]):
    done = ask_for_help(arguments)
    assert done == 0


def ask_for_help(arguments: list[str]) -> int:
    """Exit code of a command with ``--help``, which is looked at after all options
    were found to exist."""

    def create_app() -> Flask:
        app = Flask("docs")
        TaskQueue(app)
        return app

    group = FlaskGroup(create_app=create_app, set_debug_flag=False)
    done = CliRunner().invoke(group, [*arguments, "--help"])
    return done.exit_code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param("worker -c 2", 0, id="right"),
        pytest.param("worker --workers 2", 2, id="option"),
        pytest.param("wrker", 2, id="command"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, code: int):
    assert ask_for_help(line.split()) == code


READERS: dict[str, t.Callable[[str], object]] = {
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "json": json.loads,
    "jinja": jinja2.Environment(autoescape=True).parse,
    # systemd allows a key twice, and a percent sign is its own.
    "ini": lambda text: configparser.ConfigParser(
        strict=False, interpolation=None
    ).read_string(text),
}


@cases(*READERS)
def test_a_block_can_be_read(block: Block):
    READERS[block.language](block.source)
