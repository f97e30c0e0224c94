"""Requests a second of the status endpoint, beside a view that does one Redis GET.

    python benchmarks/endpoint.py [--requests 200] [--rounds 41]

One server on a Unix socket, one thread of gunicorn, one connection that is kept, in
turn. Prints the median round of each, and what part of the view's pace that is. The
aim is 0.6.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from first_numbers import OURS, process, server

VIEW = """
import redis
from bench_ours import create_app

app = create_app()
client = redis.Redis.from_url(app.config["TASKQUEUE_URL"])

@app.get("/value")
def value():
    return {"value": client.get("value").decode()}
"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[HTTPConnection]:
    """A connection to one thread of gunicorn that serves :data:`VIEW`."""
    address = folder / "http"
    command = ("-m", "gunicorn", "-k", "gthread", "-b", f"unix:{address}")
    command += ("--threads", "1", "--keep-alive", "60", "bench_view:app")
    with process(sys.executable, *command, cwd=folder):
        while not address.exists():
            time.sleep(0.05)
        connection = HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(address))
        yield connection
        connection.close()


def pace(connection: HTTPConnection, path: str, requests: int) -> float:
    """Requests a second, one after the other."""
    began = time.perf_counter()
    for _ in range(requests):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    return requests / (time.perf_counter() - began)


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=41)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ftq-"))
    (folder / "bench_ours.py").write_text(OURS)
    (folder / "bench_view.py").write_text(VIEW)
    sys.path.insert(0, str(folder))
    os.environ["FLASK_TASKQUEUE_URL"] = f"unix://{folder / 's'}"
    with server(folder) as client:
        import bench_ours

        client.set("value", "3")
        worker = ("-m", "flask", "--app", "bench_ours", "worker", "-l", "warning")
        app = bench_ours.create_app()
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
        with served(folder) as connection:
            for _ in range(given.rounds):
                for name, path in paths.items():
                    rounds[name].append(pace(connection, path, given.requests))
        base = statistics.median(rounds["a view with one GET"])
        for name, found in rounds.items():
            median = statistics.median(found)
            print(f"{name:22} {median:7.0f} /s  {median / base:5.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()
