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

numbers = st.lists(st.floats(-1e6, 1e6).map(repr), min_size=2)


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
    column = columns.ColumnStatistics("x")
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
def test_a_numeric_column_has_the_numbers_of_the_standard_library(texts):
    found = summary(texts)
    values = [float(text) for text in texts]
    assert (found["minimum"], found["maximum"]) == (min(values), max(values))
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert found["deviation"] == pytest.approx(statistics.stdev(values), abs=1e-3)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(
            [], {"count": 0, "missing": 0, "distinct": 0, "longest": 0}, id="none"
        ),
        pytest.param(
            ["", "1", "x", "x"],
            {"count": 3, "missing": 1, "distinct": 2, "longest": 1},
            id="mixed",
        ),
        pytest.param(
            ["nan", "inf"],
            {"count": 2, "missing": 0, "distinct": 2, "longest": 3},
            id="not-finite",
        ),
    ],
)
def test_a_column_with_text_tells_of_texts(texts, expected):
    assert summary(texts) == {"name": "x", **expected}


def test_distinct_texts_are_counted_up_to_a_limit():
    texts = [f"t{number}" for number in range(columns.DISTINCT_MAX + 5)]
    assert summary(texts)["distinct"] == columns.DISTINCT_MAX


@pytest.mark.timeout(150)
def test_the_check_succeeds_and_leaves_no_process(copy):
    done = subprocess.run(
        [*DEMO, "--check"], cwd=copy, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("PROGRESS") for line in lines)
    assert lines[-2] == "SUCCESS"
    assert re.fullmatch(
        r"200000 rows in .* the numbers of 4 columns are right", lines[-1]
    )
    assert_nothing_is_left(copy)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_signal_stops_the_demo_and_what_it_started(copy, number):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        DEMO, cwd=copy, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("Open "))
        page = urllib.request.urlopen(line.split()[1]).read().decode()
        assert "<h1>Reports</h1>" in page
        process.send_signal(number)
        assert process.wait(40) == 0
    assert_nothing_is_left(copy)


def test_the_quick_start_of_the_readme_runs(monkeypatch):
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.setenv("FLASK_TASKQUEUE_EAGER", "true")
    space: dict[str, t.Any] = {"__name__": "app"}
    exec(blocks[0], space)  # noqa: S102 - what the README shows
    client = space["create_app"]().test_client()
    accepted = client.post("/add/1/2")
    assert accepted.status_code == 202
    assert client.get(accepted.headers["Location"]).json["result"] == 3
