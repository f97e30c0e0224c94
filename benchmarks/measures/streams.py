"""How late the end of a job is at its watchers: streams and waits of one process."""

from __future__ import annotations

import json
import selectors
import socket
import time
import typing as t
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row
from .endpoint import served
from .latency import both, pair

WATCHERS = 100
"""Half of them read ``/events``, half wait with ``?wait=20``."""


def measure(bench: Bench) -> list[Row]:
    """To the last byte at its watcher; one job each, and one job for all."""
    detail = f"{WATCHERS} watchers of one process"
    rows = pair(bench, "streams", "from a job's end to its watchers", detail)
    ours = our_app()
    bench.clean()
    contender = ours.Ours()
    streams = {"FLASK_TASKQUEUE_MAX_STREAMS": str(WATCHERS)}
    target = f"{ours.__name__}:create_app()"
    with (
        contender.opened(),
        bench.worker(contender, How()),
        served(bench, target, WATCHERS + 5, **streams) as address,
    ):
        lanes = {
            f"{OURS}, a job each": lambda: _watched(bench, address, WATCHERS),
            f"{OURS}, one job": lambda: _watched(bench, address, 1),
        }
        return bench.alternate(rows, lanes)


def _watched(bench: Bench, address: Path, jobs: int) -> tuple[float, float]:
    client = bench.server.client
    client.sadd("tq:paused", "default")
    handles = our_app().add.delay_many([(0, 1)] * jobs)
    paths = [f"/tasks/{handles[n % jobs].id}" for n in range(WATCHERS)]
    suffixes = ("/events", "?wait=20")
    asked = [_ask(address, path + suffixes[n % 2]) for n, path in enumerate(paths)]
    while sum(row["sub"] == str(jobs) for row in client.client_list()) != 1:
        time.sleep(0.01)
    time.sleep(0.5)  # until all have been told how it is now
    client.srem("tq:paused", "default")
    late = _ends(asked)
    assert len(late) == WATCHERS, len(late)
    bench.ledger.reset()
    return both(late)


def _ask(address: Path, path: str) -> socket.socket:
    """Begin a request."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(address))
    sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return sock


def _ends(sockets: Sequence[socket.socket]) -> list[float]:
    """Seconds from the end of its job, by the server's clock, to the last byte."""
    late = []
    texts = dict.fromkeys(sockets, b"")
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(30):
                sock = t.cast("socket.socket", key.fileobj)
                part = sock.recv(65536)
                texts[sock] += part
                if not part:
                    selector.unregister(sock)
                    sock.close()
                elif b'"ended_at": "' in texts[sock]:
                    whole = texts[sock].rstrip().rpartition(b"\n")[2]
                    ended = json.loads(whole.removeprefix(b"data: "))["ended_at"]
                    late.append(time.time() - datetime.fromisoformat(ended).timestamp())
    return late
