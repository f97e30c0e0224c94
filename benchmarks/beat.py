"""How late a beat fires, many entries too, what it costs when idle, and its memory.

    python benchmarks/beat.py [--only lateness,burst,idle,memory] [--ticks 1000000]

One server with an append-only file on a Unix socket, ``flask beat`` at WARNING, for
the lateness a ``flask worker -c 1`` beside it, nothing pinned. ``memory`` moves the
server's clock: it needs Debian's libfaketime, and keeps no append-only file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from first_numbers import OURS, server
from latency import quantiles

if t.TYPE_CHECKING:
    from tests.servers import Server

APP = "bench_ours"


@contextlib.contextmanager
def started(folder: Path, *command: str) -> Iterator[int]:
    """A ``flask`` process at WARNING, stopped afterwards; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", APP, *command, "-l", "warning"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def declare(count: int, schedule: float | str) -> list[str]:
    """Let beats that are started declare so many entries; their names."""
    names = [f"entry{number}" for number in range(count)]
    entries = {
        name: {"task": f"{APP}.add", "schedule": schedule, "args": [1, 1]}
        for name in names
    }
    os.environ["FLASK_TASKQUEUE_BEAT_SCHEDULE"] = json.dumps(entries)
    return names


def histories(names: Sequence[str]) -> list[list[t.Any]]:
    """The last 100 firings of entries, oldest first."""
    import bench_ours

    from flask_taskqueue.beat import listing

    state = bench_ours.tq.state_of(bench_ours.create_app())
    found = [listing.firings(state, name, 100)[::-1] for name in names]
    state.broker.close()
    return found


def stamps(client: t.Any, rows: Sequence[t.Any], field: str) -> list[float]:
    """Seconds from the due time of each to what a field of its job says."""
    pipeline = client.pipeline(transaction=False)
    for row in rows:
        pipeline.hget(f"rq:job:{row.job_id}", field)
    return [
        (datetime.fromisoformat(at.decode()) - row.due).total_seconds()
        for row, at in zip(rows, pipeline.execute(), strict=True)
    ]


def lateness(client: t.Any, folder: Path, given: argparse.Namespace) -> None:
    """Ten entries of a second each: from due time to job, and to its start."""
    names = declare(10, 1.0)
    with started(folder, "worker", "-c", "1"), started(folder, "beat"):
        while client.zcard("rq:finished:default") < 20:
            time.sleep(0.1)
        time.sleep(given.seconds)
    rows = [each[-given.seconds :] for each in histories(names)]
    for each in rows:
        steps = {b.due - a.due for a, b in zip(each, each[1:], strict=False)}
        assert steps == {timedelta(seconds=1)}, f"a due time is missing: {steps}"
    flat = [row for each in rows for row in each]
    show(f"late (ms), {len(flat)} firings", "p50", "p99", "max")
    for label, field in (("enqueued", "enqueued_at"), ("started", "started_at")):
        late = stamps(client, flat, field)
        assert min(late) >= 0, f"a job was {label} {-min(late):.6f} s early"
        show(label, *quantiles(late))


def burst(client: t.Any, folder: Path, given: argparse.Namespace) -> None:
    """Many entries due in the same second, several times: until the last is fired."""
    names = declare(given.entries, "*/10 * * * * *")
    with started(folder, "beat"):
        while client.llen("rq:queue:default") < 6 * given.entries:
            time.sleep(0.1)
    last: dict[datetime, list[datetime]] = {}
    for each in histories(names):
        for row in each:
            last.setdefault(row.due, []).append(row.at)
    # At the first time some may not have been written yet.
    full = {due: at for due, at in last.items() if len(at) == given.entries}
    assert len(full) >= 5
    took = [(max(at) - due).total_seconds() for due, at in full.items()]
    show(f"{given.entries} due at once, {len(took)} times", "best", "median", "worst")
    show("seconds until all are fired", min(took), statistics.median(took), max(took))


def idle(client: t.Any, folder: Path, given: argparse.Namespace) -> None:
    """Commands a second of one beat, and of one more that stands by."""
    declare(10, 3600)
    with started(folder, "beat"):
        one = commands(client, given.seconds)
        with started(folder, "beat"):
            two = commands(client, given.seconds)
    show("idle", "leads", "stands by")
    show("commands a second", one, two - one)


def commands(client: t.Any, seconds: int) -> float:
    """Commands a second, those in scripts included."""
    # What is done at a start only, such as looking for other schedulers.
    time.sleep(8)
    began = calls(client)
    time.sleep(seconds)
    return (calls(client) - began) / seconds


def calls(client: t.Any) -> int:
    """Commands so far, but for those that ask this."""
    stats = client.info("commandstats")
    return sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")


def show(label: str, *cells: str | float) -> None:
    """Print a line of a table."""
    shown = (f"{c:12.2f}" if isinstance(c, float) else f"{c:>12}" for c in cells)
    print(f"{label:28}" + "".join(shown), flush=True)  # noqa: T201


class Jumps:
    """A beat with entries of a second each, on a server whose clock jumps."""

    STEP = 50
    """Seconds of a jump: less than the grace, so that each second is fired."""

    def __init__(self, server: Server, entries: int) -> None:
        self.server = server
        self.client: t.Any = server.client()
        self.ticks = 0
        self._ahead = 0
        self._entries = entries

    def jump(self) -> None:
        """Let all become due often; wait until it is fired, and remove the jobs."""
        self._ahead += self.STEP
        self.server.set_clock(self._ahead)
        self.client.publish("tq:entries", APP)
        until = f"{self._time():.6f}"
        while self.client.zcount(f"tq:due:{APP}", "-inf", until):
            time.sleep(0.01)
        # Those of seconds that went by meanwhile come with the next jump.
        while ids := self.client.lpop("rq:queue:default", 1000):
            assert len(set(ids)) == len(ids)
            self.client.unlink(*(b"rq:job:" + id for id in ids))
            self.ticks += len(ids)

    def _time(self) -> float:
        whole, micro = self.client.time()
        return float(whole) + micro / 1_000_000

    def check(self) -> None:
        """Each second of each entry was fired once."""
        members = self.client.smembers(f"tq:entries:{APP}")
        assert len(members) == self._entries
        counts = [int(self.client.hget(b"tq:entry:" + id, "count")) for id in members]
        # Some may have been fired since they were counted.
        assert abs(sum(counts) - self.ticks) <= self._entries * 5
        for id in members:
            rows = self.client.lrange(b"tq:firings:" + id, 0, -1)
            dues = [float(row.split()[0]) for row in rows]
            steps = [round(a - b, 6) for a, b in zip(dues, dues[1:], strict=False)]
            assert set(steps) == {1.0}


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def memory(folder: Path, given: argparse.Namespace) -> None:
    """Resident memory of a beat, and Redis's, over many ticks."""
    # Not installed: beside this folder in a checkout.
    sys.path.append(str(Path(__file__).parents[1]))
    from tests.servers import Server

    entries = 100
    declare(entries, 1.0)
    with Server(folder / "clocked", clock=True, append_only=False) as clocked:
        os.environ["FLASK_TASKQUEUE_URL"] = clocked.url
        jumps = Jumps(clocked, entries)
        with started(folder, "beat") as pid:
            while jumps.client.scard(f"tq:entries:{APP}") < entries:
                time.sleep(0.05)
            show("ticks", "beat, MiB", "Redis, MiB", "keys", "ticks/s")
            began = time.monotonic()
            for part in range(1, 11):
                while jumps.ticks < given.ticks * part / 10:
                    jumps.jump()
                used = jumps.client.info("memory")["used_memory"] / 2**20
                rate = jumps.ticks / (time.monotonic() - began)
                left = jumps.client.dbsize()
                show(f"{jumps.ticks:,}", rss_mib(pid), used, left, round(rate))
            jumps.check()
        jumps.client.close()


def main() -> None:
    """Run what is asked for, and print it."""
    lanes = {"lateness": lateness, "burst": burst, "idle": idle}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join([*lanes, "memory"]))
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ftq-"))
    (folder / "bench_ours.py").write_text(OURS)
    sys.path.insert(0, str(folder))
    asked = given.only.split(",")
    for name, lane in lanes.items():
        if name in asked:
            own = folder / name
            own.mkdir()
            (own / "bench_ours.py").write_text(OURS)
            os.environ["FLASK_TASKQUEUE_URL"] = f"unix://{own / 's'}"
            with server(own, append_only=True) as client:
                lane(client, own, given)
    if "memory" in asked:
        memory(folder, given)


if __name__ == "__main__":
    main()
