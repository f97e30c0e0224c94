"""How late jobs are: due times, round trips, and waking of ``get()``.

    python benchmarks/latency.py [--jobs 300] [--rounds 5]

One server with an append-only file on a Unix socket, one ``flask worker -c 1`` at
WARNING, nothing pinned. Prints the best and the median round.
"""

from __future__ import annotations

import argparse
import statistics
import time
import typing as t
from datetime import UTC, datetime, timedelta

from first_numbers import at_work


def quantiles(values: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    ordered = sorted(value * 1000 for value in values)
    at = int(len(ordered) * 0.99)
    return statistics.median(ordered), ordered[min(at, len(ordered) - 1)], ordered[-1]


def eta(add: t.Any, client: t.Any, jobs: int) -> list[float]:
    """Seconds between due time and start, by the server's clock."""
    begin = datetime.now(UTC) + timedelta(seconds=1)
    handles = [
        add.apply_async((n, 1), eta=begin + timedelta(seconds=2 * n / jobs))
        for n in range(jobs)
    ]
    for handle in handles:
        handle.get(timeout=30)
    late = []
    for handle in handles:
        due, started = client.hmget(f"rq:job:{handle.id}", "tq_eta", "started_at")
        at = datetime.fromisoformat(started.decode()).timestamp()
        late.append(at - float(due))
    assert min(late) >= 0, f"a job started {-min(late):.6f} s early"
    return late


def round_trip(add: t.Any, client: t.Any, jobs: int) -> list[float]:
    """Seconds from ``delay`` to its result, with the worker idle in between."""
    out = []
    for number in range(jobs):
        began = time.perf_counter()
        assert add.delay(number, 1).get(timeout=10) == number + 1
        out.append(time.perf_counter() - began)
    return out


def waking(add: t.Any, client: t.Any, jobs: int) -> list[float]:
    """Seconds from the end of a job, by the server's clock, to ``get()``'s return."""
    out = []
    for number in range(jobs):
        handle = add.apply_async((number, 1), countdown=0.02)
        handle.get(timeout=10)
        returned = time.time()
        ended = client.hget(f"rq:job:{handle.id}", "ended_at").decode()
        out.append(returned - datetime.fromisoformat(ended).timestamp())
    return out


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with at_work(append_only=True) as (_, client, add):
        print(f"{'ms':28}{'p50':>10}{'p99':>10}{'max':>10}")  # noqa: T201
        for measure in (eta, round_trip, waking):
            rounds = [
                quantiles(measure(add, client, given.jobs)) for _ in range(given.rounds)
            ]
            rounds.sort(key=lambda row: row[1])
            shown = {"best": rounds[0], "median": rounds[len(rounds) // 2]}
            for name, row in shown.items():
                label = f"{measure.__name__} ({name} of {given.rounds})"
                cells = "".join(f"{cell:10.2f}" for cell in row)
                print(f"{label:28}{cells}")  # noqa: T201


if __name__ == "__main__":
    main()
