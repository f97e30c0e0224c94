"""Requests a second of the status endpoint, beside a view that does one Redis GET.

    python benchmarks/endpoint.py [--requests 3000] [--rounds 5]

One server on a Unix socket, one process, the app called as a WSGI server calls it, in
turn. Prints the median round of each, and what part of the view's pace that is. The
aim is 0.6.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import redis
from first_numbers import OURS, process, server
from flask import Flask
from werkzeug.test import create_environ


def add_view(app: Flask, client: redis.Redis) -> None:
    """The view that the endpoint is measured against."""
    client.set("value", "3")

    @app.get("/value")
    def value() -> dict[str, t.Any]:
        return {"value": client.get("value").decode()}


def pace(app: Flask, path: str, requests: int) -> float:
    """Requests a second."""
    began = time.perf_counter()
    for _ in range(requests):
        statuses: list[str] = []
        environ = create_environ(path)
        parts = app.wsgi_app(environ, lambda status, headers: statuses.append(status))
        b"".join(parts)
        parts.close()
        assert statuses == ["200 OK"], statuses
    return requests / (time.perf_counter() - began)


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ftq-"))
    (folder / "bench_ours.py").write_text(OURS)
    sys.path.insert(0, str(folder))
    os.environ["FLASK_TASKQUEUE_URL"] = f"unix://{folder / 's'}"
    with server(folder) as client:
        import bench_ours

        app = bench_ours.create_app()
        add_view(app, client)
        worker = ("-m", "flask", "--app", "bench_ours", "worker", "-l", "warning")
        with app.app_context(), process(sys.executable, *worker, cwd=folder):
            waiting = bench_ours.add.apply_async((1, 2), queue="nobody")
            ended = bench_ours.add.delay(1, 2)
            ended.get(timeout=20)
        paths = {
            "a view with one GET": "/value",
            "a job that has ended": f"/tasks/{ended.id}",
            "a job that waits": f"/tasks/{waiting.id}",
        }
        rounds: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(given.rounds):
            for name, path in paths.items():
                rounds[name].append(pace(app, path, given.requests))
        base = statistics.median(rounds["a view with one GET"])
        for name, found in rounds.items():
            median = statistics.median(found)
            print(f"{name:22} {median:7.0f} /s  {median / base:5.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()
