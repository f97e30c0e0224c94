"""The example app and the README's quick start do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import typing as t
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parents[1]
EXAMPLE = CHECKOUT / "example_app"
DEMO = [sys.executable, "-m", "flask", "--app", "example_app", "demo"]

numbers = st.lists(st.floats(-1e6, 1e6).map(repr), min_size=1)


def load_columns() -> t.Any:
    """The module, without the app around it."""
    spec = importlib.util.spec_from_file_location("columns", EXAMPLE / "columns.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


columns = load_columns()


def summary(texts):
    column = columns.Column("x")
    for text in texts:
        column.add(text)
    return column.summary()


@pytest.fixture
def copy(tmp_path):
    """A folder with the example only, so that the installed package serves it."""
    shutil.copytree(EXAMPLE, tmp_path / "example_app")
    return tmp_path


def processes_in(folder):
    """Command lines of the processes that work in a folder or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if (process / "cwd").readlink().is_relative_to(folder) or any(
                str(folder) in word for word in command
            ):
                found.append(command)
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def assert_nothing_is_left(folder):
    """Worker and web server are gone; the embedded server follows them."""
    assert [command for command in processes_in(folder) if "flask" in command] == []
    deadline = time.monotonic() + 15
    while left := processes_in(folder):
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.05)


@settings(deadline=None)  # the machine may be busy
@given(numbers)
def test_a_column_of_numbers_has_the_numbers_of_the_standard_library(texts):
    found = summary(texts)
    values = [float(text) for text in texts]
    assert found["numbers"] == sum(found["histogram"]) == len(values)
    assert (found["minimum"], found["maximum"]) == (min(values), max(values))
    assert found["mean"] == pytest.approx(statistics.fmean(values))


@pytest.mark.parametrize(
    ("texts", "counts"),
    [
        pytest.param([], (0, 0, 0), id="none"),
        pytest.param(["", "1", "x", "x"], (1, 2, 1), id="mixed"),
        pytest.param(["nan", "inf"], (0, 2, 0), id="not-finite"),
    ],
)
def test_a_column_tells_numbers_texts_and_missing_apart(texts, counts):
    found = summary(texts)
    assert (found["numbers"], found["texts"], found["missing"]) == counts


def test_a_histogram_has_equal_steps_from_minimum_to_maximum():
    found = summary([str(number) for number in range(columns.BINS * 10)])
    assert found["histogram"] == [10] * columns.BINS


@pytest.mark.timeout(150)
def test_the_check_succeeds_and_leaves_no_process(copy):
    done = subprocess.run(
        [*DEMO, "--check"], cwd=copy, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"200000 rows in .* s: right, and mailed", done.stdout)
    assert "Sending due task check (example_app.tasks.heartbeat)" in done.stdout
    assert_nothing_is_left(copy)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
    ids=["int", "term", "hup"],
)
def test_a_signal_stops_the_demo_and_what_it_started(copy, number, code):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        DEMO, cwd=copy, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        url = next(process.stdout).split()[1]
        next(line for line in process.stdout if "Running on" in line)
        page = urllib.request.urlopen(url).read().decode()
        assert "<h1>Reports</h1>" in page
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(40) == code
    assert_nothing_is_left(copy)


def test_the_example_is_short():
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    texts = [path for path in files if path.suffix != ".pyc"]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in texts) <= 350
