"""What an installed wheel holds, and that the README's commands are what CI runs."""

from __future__ import annotations

import os
import re
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import flask_taskqueue

DISTRIBUTION = "Flask-TaskQueue"
CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text("utf-8")

in_tox = pytest.mark.skipif(
    "TOX_ENV_NAME" not in os.environ, reason="the package may be imported as it lies"
)


def files_below(folder: Path) -> set[str]:
    """Paths of the files below a folder, without compiled ones."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".pyo"}
    }


def first_line_with(words: str) -> str:
    """The first line of the README that contains some words."""
    return next(line for line in README.splitlines() if words in line)


@in_tox
def test_the_tests_run_against_the_installed_package():
    assert Path(flask_taskqueue.__file__).is_relative_to(sysconfig.get_path("purelib"))


@in_tox
def test_the_wheel_holds_every_file_of_the_package():
    installed = files_below(Path(flask_taskqueue.__file__).parent)
    wanted = files_below(CHECKOUT / "flask_taskqueue")
    assert installed == wanted, "a file that is gone may still lie in build/"
    assert "py.typed" in installed


@in_tox
def test_the_wheel_holds_nothing_else():
    files = metadata.files(DISTRIBUTION)
    assert files is not None
    tops = {file.parts[0] for file in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "flask_taskqueue"
    }


@in_tox
def test_the_version_is_that_of_the_distribution():
    assert flask_taskqueue.__version__ == metadata.version(DISTRIBUTION)


@in_tox
def test_the_requirements_are_those_promised():
    requires = metadata.requires(DISTRIBUTION)
    assert requires is not None
    assert {line for line in requires if "extra ==" not in line} == {
        "Flask>=3.1",
        "rq<3,>=2.12",
        "rq-scheduler>=0.14",
        "redis[hiredis]!=6,>=5",
        "hiredis>=2.2",
        "python-dotenv",
        'tzdata; sys_platform == "win32"',
    }


@in_tox
def test_the_extras_are_those_promised():
    assert set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()) == {
        "bench",
        "embedded",
        "msgpack",
        "gevent",
        "example",
        "test",
        "dev",
    }


def test_the_version_stands_in_one_place():
    version = re.search(r'version="([^"]+)"', (CHECKOUT / "setup.py").read_text())
    assert version is not None
    package = CHECKOUT / "flask_taskqueue"
    elsewhere = [*package.rglob("*.py"), CHECKOUT / "pyproject.toml"]
    assert [path for path in elsewhere if version[1] in path.read_text("utf-8")] == []


def test_warnings_are_errors():
    options = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    filters = options["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert filters[0] == "error"


@pytest.mark.parametrize("words", ["flask --app example_app demo", "tox -qq -e py"])
def test_a_command_of_the_readme_stands_alone_and_makes_its_environment(words):
    line = first_line_with(words)
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert line.endswith(words)
    assert words in (CHECKOUT / ".ci" / "run").read_text("utf-8")
