"""How late due jobs are when there are many: over ten seconds, and all at once.

    python benchmarks/eta.py [--jobs 10000] [--rounds 3]

One server with an append-only file on a Unix socket, one ``flask worker -c 1`` at
WARNING, nothing pinned. Prints the best and the median round; "done" is the time the
worker takes to run them all, too.
"""

from __future__ import annotations

import argparse
import time
import typing as t
from datetime import UTC, datetime, timedelta

from first_numbers import at_work
from latency import quantiles

SPREAD = 10.0
"""Seconds over which they are due where they are not due at once."""


def schedule(add: t.Any, jobs: int, spread: float) -> tuple[datetime, list[str]]:
    """Enqueue jobs; when the first is due, and their ids in order of due time."""
    # Time to enqueue them all before that.
    first = datetime.now(UTC) + timedelta(seconds=1 + jobs / 2000)
    ids = []
    for number in range(jobs):
        eta = first + timedelta(seconds=spread * number / jobs)
        ids.append(add.apply_async((number, 1), eta=eta).id)
    assert datetime.now(UTC) < first, "enqueueing took too long: give fewer --jobs"
    return first, ids


def until_empty(count: t.Callable[[], int], since: datetime) -> float:
    """Seconds from an instant until nothing is left."""
    while count():
        time.sleep(0.005)
    return (datetime.now(UTC) - since).total_seconds()


def starts(client: t.Any, ids: list[str]) -> list[tuple[float, float]]:
    """When each job was due and when it started, by the server's clock."""
    pipeline = client.pipeline(transaction=False)
    for job_id in ids:
        pipeline.hmget(f"rq:job:{job_id}", "tq_eta", "started_at")
    return [
        (float(due), datetime.fromisoformat(started.decode()).timestamp())
        for due, started in pipeline.execute()
    ]


def run(
    add: t.Any, client: t.Any, jobs: int, spread: float
) -> tuple[float, float, list[float]]:
    """Seconds until all are queued, until all are done, and how late each started."""
    client.delete("rq:finished:default")
    first, ids = schedule(add, jobs, spread)
    queued = until_empty(lambda: client.zcard("rq:scheduled:default"), first)
    done = until_empty(lambda: jobs - client.zcard("rq:finished:default"), first)
    found = starts(client, ids)
    late = [started - due for due, started in found]
    assert min(late) >= 0, f"a job started {-min(late):.6f} s early"
    if spread:
        order = [started for _, started in found]
        assert order == sorted(order), "jobs did not start in order of due time"
    return queued, done, late


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with at_work(append_only=True) as (_, client, add):
        rounds = [
            (
                quantiles(run(add, client, given.jobs, SPREAD)[2]),
                run(add, client, given.jobs, 0.0)[:2],
            )
            for _ in range(given.rounds)
        ]
    print(f"{'over 10 s: late (ms)':28}{'p50':>10}{'p99':>10}{'max':>10}")  # noqa: T201
    show(given.rounds, sorted((late for late, _ in rounds), key=lambda row: row[1]))
    print(f"{'at once: seconds until all':28}{'queued':>10}{'done':>10}")  # noqa: T201
    show(given.rounds, sorted(once for _, once in rounds))


def show(count: int, rows: t.Sequence[tuple[float, ...]]) -> None:
    """Print the best and the median of sorted rows."""
    for name, row in (("best", rows[0]), ("median", rows[len(rows) // 2])):
        cells = "".join(f"{cell:10.2f}" for cell in row)
        print(f"{f'{name} of {count}':28}{cells}")  # noqa: T201


if __name__ == "__main__":
    main()
