"""A summary asked for over HTTP, compared with the standard library's numbers."""

from __future__ import annotations

import csv
import json
import math
import random
import statistics
import time
import typing as t
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import click
from flask import current_app

Json = dict[str, t.Any]
Pause = t.Callable[[float], None]

ROWS = 200_000
SECONDS = 90
"""The job must have ended within this time."""


def fetch(url: str, **form: str) -> Json:
    """The JSON of a page; a POST where there are form fields."""
    data = urlencode(form).encode() if form else None
    request = Request(url, data, {"Accept": "application/json"})  # noqa: S310 - http
    with urlopen(request, timeout=10) as response:  # noqa: S310 - http
        return t.cast(Json, json.load(response))


def write_sample(path: Path) -> list[Json]:
    """Writes the same random table each time, and tells what is in its columns."""
    draw = random.Random(20)  # noqa: S311 - numbers that repeat
    table = {
        "id": [str(number) for number in range(ROWS)],
        "temperature": [f"{draw.gauss(12, 9):.2f}" for _ in range(ROWS)],
        "rain": [draw.choice(["", f"{draw.expovariate(1):.3f}"]) for _ in range(ROWS)],
        "station": [draw.choice(["Bergen", "Tromsø", ""]) for _ in range(ROWS)],
    }
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return [expected(name, texts) for name, texts in table.items()]


def expected(name: str, texts: list[str]) -> Json:
    """What ``ColumnStatistics.summary()`` should say of a column."""
    present = [text for text in texts if text]
    known = {"name": name, "count": len(present), "missing": texts.count("")}
    if name == "station":
        longest = max(map(len, present))
        return known | {"distinct": len(set(present)), "longest": longest}
    numbers = [float(text) for text in present]
    return known | {
        "minimum": min(numbers),
        "maximum": max(numbers),
        "mean": statistics.fmean(numbers),
        "deviation": statistics.stdev(numbers),
    }


def same(found: Json, wanted: Json) -> bool:
    """Whether two columns agree, up to the rounding of sums."""
    return found.keys() == wanted.keys() and all(
        math.isclose(found[key], value, rel_tol=1e-9)
        if isinstance(value, float)
        else found[key] == value
        for key, value in wanted.items()
    )


def follow(url: str, pause: Pause) -> Json:
    """Prints what the job says until it ends, and returns the last answer."""
    deadline = time.monotonic() + SECONDS
    said = ""
    while time.monotonic() < deadline:
        job = fetch(url)
        line = job["state"]
        if job["progress"] and not job["ready"]:
            line += " {current} of {total} bytes".format(**job["progress"])
        if line != said:
            click.echo(line)
            said = line
        if job["ready"]:
            return job
        pause(0.1)
    raise click.ClickException(f"the job has not ended within {SECONDS} s")


def run_check(url: str, pause: Pause) -> None:
    """Has a file summarized and compares what is stored then.

    :param url: Where the web app listens.
    :param pause: Waits for some seconds, or raises where that makes no sense.
    :raises click.ClickException: Something is not as it should be.
    """
    wanted = write_sample(Path(current_app.config["DATA_FOLDER"], "check.csv"))
    accepted = fetch(f"{url}/reports", name="check.csv")
    job = follow(f"{url}{accepted['links']['self']}", pause)
    if job["state"] != "SUCCESS":
        raise click.ClickException(f"the job ended in {job['state']}: {job['error']}")
    report = fetch(f"{url}/reports/{job['id']}")
    right = [*map(same, report["columns"], wanted)]
    if report["rows"] != ROWS or right != [True] * len(wanted):
        raise click.ClickException(f"expected {ROWS} rows, {wanted}; found {report}")
    click.echo(
        f"{ROWS} rows in {job['runtime']:.1f} s,"
        f" the numbers of {len(wanted)} columns are right"
    )
