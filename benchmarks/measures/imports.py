"""What importing the package costs over Flask and rq, which it needs anyway."""

from __future__ import annotations

import subprocess
import sys

from ..bench import Bench
from ..contenders import OURS
from ..measuring import Row
from ..processes import inherited

BASE = "import flask, rq"
IMPORT = f"{BASE}, flask_taskqueue"
WEB = f"{IMPORT}; flask_taskqueue.TaskQueue(flask.Flask('app'))"

TIMED = """
import time
began = time.perf_counter()
{statement}
print((time.perf_counter() - began) * 1000)
"""

TRIES = 3
"""New interpreters for each value: the fastest counts."""


def measure(bench: Bench) -> list[Row]:
    """Milliseconds over those of :data:`BASE`, each statement in turn."""
    row = Row(
        name="import",
        title="import, over Flask and rq themselves",
        unit="ms",
        conditions=f"{bench.conditions()}, best of {TRIES} interpreters",
        more=False,
    )
    for statement in (BASE, WEB):  # compiled files and the page cache
        _milliseconds(statement)
    lanes = {
        OURS: lambda: _added(IMPORT),
        f"{OURS}, and TaskQueue(app)": lambda: _added(WEB),
    }
    return bench.alternate(row, lanes)


def _added(statement: str) -> float:
    pairs = [(_milliseconds(BASE), _milliseconds(statement)) for _ in range(TRIES)]
    return min(whole for _, whole in pairs) - min(base for base, _ in pairs)


def _milliseconds(statement: str) -> float:
    """What a statement takes in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        env=inherited(),
    )
    return float(done.stdout)
