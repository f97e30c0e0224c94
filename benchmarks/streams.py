"""How late the end of a job is at its watchers: streams and waits of one process.

    python benchmarks/streams.py [--watchers 100] [--rounds 5]

One server on a Unix socket, one gunicorn process with a thread for each watcher, one
``flask worker -c 1`` at WARNING. Half of the watchers read ``/events``, half wait with
``?wait=20``; each has a job of its own, or all have the same. Prints milliseconds from
the end of a job, by the server's clock, to the last byte at its watcher: best round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import sys
import time
import typing as t
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from first_numbers import at_work, process
from latency import quantiles


@contextlib.contextmanager
def served(folder: Path, watchers: int) -> Iterator[Path]:
    """Gunicorn with a thread for each watcher; where it listens."""
    address = folder / "http"
    os.environ["FLASK_TASKQUEUE_MAX_STREAMS"] = str(watchers)
    command = ("-m", "gunicorn", "-k", "gthread", "-b", f"unix:{address}")
    command += ("--threads", str(watchers + 5), "bench_ours:create_app()")
    with process(sys.executable, *command, cwd=folder):
        while not address.exists():
            time.sleep(0.05)
        yield address


def ask(address: Path, path: str) -> socket.socket:
    """Begin a request."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(address))
    sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return sock


def ends(sockets: list[socket.socket]) -> list[float]:
    """Seconds from the end of its job to the last byte, for each."""
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


def measure(
    add: t.Any, client: t.Any, address: Path, watchers: int, jobs: int
) -> tuple[float, float, float]:
    """One round: quantiles of how late the ends were."""
    client.sadd("tq:paused", "default")
    handles = [add.delay(number, 1) for number in range(jobs)]
    paths = [f"/tasks/{handles[n % jobs].id}" for n in range(watchers)]
    suffixes = ("/events", "?wait=20")
    asked = [ask(address, path + suffixes[n % 2]) for n, path in enumerate(paths)]
    while sum(row["sub"] == str(jobs) for row in client.client_list()) != 1:
        time.sleep(0.01)
    time.sleep(0.5)  # until all have been told how it is now
    client.srem("tq:paused", "default")
    late = ends(asked)
    assert len(late) == watchers, len(late)
    return quantiles(late)


def main() -> None:
    """Run the rounds and print the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with (
        at_work() as (folder, client, add),
        served(folder, given.watchers) as address,
    ):
        print(f"{'ms':28}{'p50':>10}{'p99':>10}{'max':>10}")  # noqa: T201
        for jobs in (given.watchers, 1):
            rounds = [
                measure(add, client, address, given.watchers, jobs)
                for _ in range(given.rounds)
            ]
            cells = "".join(f"{cell:10.1f}" for cell in min(rounds))
            print(f"{given.watchers} watchers, {jobs} jobs".ljust(28) + cells)  # noqa: T201


if __name__ == "__main__":
    main()
