"""What importing the package costs over Flask and rq, which it needs anyway.

    python benchmarks/imports.py [--rounds 10]

Each round starts one new interpreter for either side, in turn; what is timed is the
import alone. Prints the best and the median of each, and the difference.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

TARGET = 60.0
"""Milliseconds that may be added."""

BASE = "import flask, rq"
OURS = f"{BASE}, flask_taskqueue"
WEB = f"{OURS}; flask_taskqueue.TaskQueue(flask.Flask('app'))"

TIMED = """
import time
began = time.perf_counter()
{statement}
print((time.perf_counter() - began) * 1000)
"""


def measure(statement: str) -> float:
    """Milliseconds a statement takes in a new interpreter."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    """Measure and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {BASE: [], OURS: [], WEB: []}
    for statement in times:  # compiled files and the page cache
        measure(statement)
    for _ in range(rounds):
        for statement, taken in times.items():
            taken.append(measure(statement))
    for statement, taken in times.items():
        best, median = min(taken), statistics.median(taken)
        print(f"{best:7.1f} ms best {median:7.1f} ms median   {statement}")  # noqa: T201
    added = min(times[OURS]) - min(times[BASE])
    print(f"{added:7.1f} ms added, target {TARGET:g} ms")  # noqa: T201
    return int(added > TARGET)


if __name__ == "__main__":
    sys.exit(main())
