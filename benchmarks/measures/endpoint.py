"""Requests a second of the status endpoint, beside a view with one Redis GET."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row

VIEW = "a Flask view with one GET"
WAITS = f"{OURS}, job waits"


@contextlib.contextmanager
def served(
    bench: Bench, target: str, threads: int, **environment: str
) -> Iterator[Path]:
    """One process of gunicorn; where it listens.

    :param target: The app, as gunicorn names it.
    """
    address = bench.folder / "http"
    command = ["-m", "gunicorn", "-k", "gthread", "-b", f"unix:{address}"]
    command += ["--threads", str(threads), "--keep-alive", "60", target]
    with bench.process(sys.executable, *command, **environment) as process:
        process.until(address.exists)
        yield address


def measure(bench: Bench) -> list[Row]:
    """A job that has ended, one that waits, and the view, in turn."""
    row = Row(
        name="endpoint",
        title="status endpoint",
        unit="requests/s",
        conditions=f"{bench.conditions()}, one thread of gunicorn, one connection",
    )
    with bench.server.placed(bench.placement):
        bench.clean()
        bench.server.client.set("value", "3")
        paths = _paths(bench)
        with served(bench, "benchmarks.view:app", 1) as address:
            connection = HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(address))
            lanes = {
                name: lambda path=path: _pace(connection, path, bench.size(2_000))
                for name, path in paths.items()
            }
            rows = bench.alternate(row, lanes)
            connection.close()
    return rows


def _paths(bench: Bench) -> dict[str, str]:
    ours = our_app()
    contender = ours.Ours()
    with contender.opened(), bench.worker(contender, How()):
        waiting = ours.add.apply_async((1, 2), queue="nobody")
        ended = ours.add.delay(1, 2)
        assert ended.get(timeout=30) == 3
    return {
        OURS: f"/tasks/{ended.id}",
        WAITS: f"/tasks/{waiting.id}",
        VIEW: "/value",
    }


def _pace(connection: HTTPConnection, path: str, requests: int) -> float:
    """Requests a second, one after the other."""
    began = time.perf_counter()
    for _ in range(requests):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    return requests / (time.perf_counter() - began)
