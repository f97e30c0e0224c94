"""The benchmarks run, check what they measure, and judge it; whatever the numbers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path
from types import ModuleType

import pytest

from .processes import PACKAGE

CHECKOUT = Path(__file__).parents[1]


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks`` on the package under test."""
    env = {name: v for name, v in os.environ.items() if not name.startswith("FLASK_")}
    env["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), str(CHECKOUT)])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )


def test_a_small_run_measures_all_that_are_installed(tmp_path: Path):
    options = ["--rounds", "1", "--scale", "0.02", "--json", "found.json"]
    done = run(tmp_path, "--only", "enqueue,worker", *options)
    assert done.returncode in (0, 1), done.stderr  # 1: a target is not reached
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failures"] == {}
    enqueue, worker = found["rows"]
    assert enqueue["values"].keys() >= {"Flask-TaskQueue", "RQ"}
    assert worker["values"].keys() >= {
        "Flask-TaskQueue", "Flask-TaskQueue, one job per call",
        "RQ Worker", "RQ SimpleWorker",
    }  # fmt: skip
    for row in (enqueue, worker):
        assert all(rate > 0 for values in row["values"].values() for rate in values)
        # Who is not measured is named, with the reason.
        skipped = [note.partition(" skipped: ")[0] for note in row["notes"]]
        assert {"Huey", "Celery", "Dramatiq"} <= {*row["values"], *skipped}
        assert "unpinned, log level WARNING, append-only file off" in row["conditions"]
    assert {each["word"] for each in found["targets"]} <= {
        "ok",
        "short",
        "not measured",
    }
    assert "Flask-TaskQueue >= 3 x RQ" in done.stdout


def test_an_unknown_measure_is_wrong_usage(tmp_path: Path):
    done = run(tmp_path, "--only", "enqueue,speed")
    assert done.returncode == 2
    assert "no 'speed': choose from enqueue, enqueue-many, worker" in done.stderr


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str], ModuleType]:
    """Imports a module of the benchmarks, which are not installed."""
    monkeypatch.syspath_prepend(CHECKOUT)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_a_job_that_ran_twice_or_not_at_all_is_found(
    benchmarks: t.Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    module = benchmarks("ledger")
    monkeypatch.setenv(module.ENVIRONMENT, "")  # set by what follows
    ledger = module.Ledger.make(tmp_path / "ledger")
    other = module.Ledger(tmp_path / "ledger")  # as in a worker
    for number in range(10, 20):
        other.runs[number] += 1
    assert ledger.ran_once(10, 10)
    assert not ledger.ran_once(10, 11)
    other.runs[15] += 1
    assert not ledger.ran_once(10, 10)
    assert ledger.ran(0, 100) == 10


@pytest.mark.parametrize(
    ("mine", "bound", "word"),
    [
        pytest.param([900, 200, 1], {"at_least": 2}, "ok", id="at-least"),
        pytest.param([900, 199, 1], {"at_least": 2}, "short", id="too-little"),
        pytest.param([900, 200, 1], {"at_most": 2}, "ok", id="at-most"),
        pytest.param([900, 201, 1], {"at_most": 2}, "short", id="too-much"),
        pytest.param([], {"at_most": 2}, "not measured", id="not-measured"),
    ],
)
def test_rounds_are_held_against_those_of_a_peer(
    benchmarks: t.Callable[[str], ModuleType],
    mine: list[int],
    bound: dict[str, t.Any],
    word: str,
):
    # In the first round the machine was three times as fast.
    row = a_row(benchmarks, {"Huey": [300, 100, 100], "Flask-TaskQueue": mine})
    target = benchmarks("targets").Target(row="x", peer="Huey", **bound)
    assert target.judge(row).word == word


def test_a_bound_on_every_round_is_held_against_the_worst(
    benchmarks: t.Callable[[str], ModuleType],
):
    row = a_row(benchmarks, {"Flask-TaskQueue": [1, 3, 1]})
    target = benchmarks("targets").Target
    assert target(row="x", at_most=2).judge(row).word == "ok"
    assert target(row="x", at_most=2, every=True).judge(row).word == "short"


def a_row(
    benchmarks: t.Callable[[str], ModuleType], values: dict[str, list[int]]
) -> t.Any:
    """What was measured, where less is better."""
    return benchmarks("measuring").Row(
        name="x",
        title="",
        unit="ms",
        conditions="",
        more=False,
        values={who: rounds for who, rounds in values.items() if rounds},
    )
