"""Memory of a beat, and Redis's, over many ticks: on a server whose clock jumps."""

from __future__ import annotations

import time
import typing as t

from ..bench import Bench
from ..contenders import OURS, our_app
from ..measuring import Row
from ..processes import Refused, pss_mib
from . import beat

if t.TYPE_CHECKING:
    from tests.servers import Server

ENTRIES, TICKS = 100, 1_000_000


class Jumps:
    """A beat with entries of a second each, on a server whose clock jumps."""

    STEP = 50
    """Seconds of a jump: less than the grace, so that each second is fired."""

    def __init__(self, server: Server, app: str) -> None:
        self.server = server
        self.app = app
        self.client: t.Any = server.client()
        self.ticks = 0
        self._ahead = 0

    def jump(self) -> None:
        """Let all become due often; wait until it is fired, and remove the jobs."""
        self._ahead += self.STEP
        self.server.set_clock(self._ahead)
        self.client.publish("tq:entries", self.app)
        whole, micro = self.client.time()
        until = f"{whole + micro / 1_000_000:.6f}"
        while self.client.zcount(f"tq:due:{self.app}", "-inf", until):
            time.sleep(0.01)
        # Those of seconds that went by meanwhile come with the next jump.
        while ids := self.client.lpop("rq:queue:default", 1000):
            assert len(set(ids)) == len(ids)
            self.client.unlink(*(b"rq:job:" + id for id in ids))
            self.ticks += len(ids)

    def check(self) -> None:
        """Each second of each entry was fired once."""
        members = self.client.smembers(f"tq:entries:{self.app}")
        assert len(members) == ENTRIES
        counts = [int(self.client.hget(b"tq:entry:" + id, "count")) for id in members]
        # Some may have been fired since they were counted.
        assert abs(sum(counts) - self.ticks) <= ENTRIES * 5
        for id in members:
            rows = self.client.lrange(b"tq:firings:" + id, 0, -1)
            dues = [float(row.split()[0]) for row in rows]
            steps = {round(a - b, 6) for a, b in zip(dues, dues[1:], strict=False)}
            assert steps == {1.0}


def measure(bench: Bench) -> list[Row]:
    """Ten values each, over a million ticks."""
    # Of a checkout: it moves a server's clock with libfaketime.
    from tests.servers import Server, why_no_clock

    reason = why_no_clock()
    if reason:
        raise Refused(reason)
    ticks, app = bench.size(TICKS), our_app()
    title = f"{{}} over {ticks:,} ticks of {ENTRIES} entries"
    rows = [
        _row(bench, "beat-memory", title.format("a beat's memory (PSS)")),
        _row(bench, "beat-redis-memory", title.format("Redis's memory")),
    ]
    folder = bench.folder / "clocked"
    with Server(folder, clock=True, append_only=False) as server:
        jumps = Jumps(server, app.create_app().name)
        url = {"FLASK_TASKQUEUE_URL": server.url}
        with beat.running(bench, ENTRIES, 1.0, **url) as process:
            known = f"tq:entries:{jumps.app}"
            process.until(lambda: jumps.client.scard(known) == ENTRIES)
            for part in range(1, 11):
                while jumps.ticks < ticks * part / 10:
                    jumps.jump()
                used = jumps.client.info("memory")["used_memory"] / 2**20
                for row, value in zip(rows, (pss_mib(process.pid), used), strict=True):
                    row.values.setdefault(OURS, []).append(value)
            jumps.check()
        jumps.client.close()
    return rows


def _row(bench: Bench, name: str, title: str) -> Row:
    conditions = bench.conditions()
    return Row(name=name, title=title, unit="MiB", conditions=conditions, more=False)
