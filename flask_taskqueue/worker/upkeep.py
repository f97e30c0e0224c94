"""What a supervisor asks of Redis from time to time: renew, sweep, promote."""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import time
import typing as t
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata

from redis import Redis
from rq.version import VERSION

from .. import keys
from ..appstate import AppState
from ..broker import scripts
from ..broker.wire import Argument, Renewed, Swept
from .asking import LEASE
from .handover import Heritage
from .joblines import log_lost
from .neighbours import Neighbours
from .plain import is_admitted
from .pools import Seat
from .tally import Tally

logger: logging.Logger = logging.getLogger(__name__)

RENEW_EVERY = 3.0
"""Seconds between renewals while jobs run."""

HEARTBEAT_EVERY = 40.0
"""Seconds between renewals of an idle worker's record."""

RECORD_TTL = 90
"""Seconds a worker's record outlives its last renewal."""

SWEEP_EVERY = 2.0
"""Seconds between sweeps of an idle worker."""

SWEEP_LEAST = 0.05
"""Seconds a sweep waits at least."""

SWEEP_GAP = 5.0
"""Seconds without a sweep after which expired leases prove nothing: a lease less the
time between renewals, less the longest wait before a worker connects again."""

SWEEP_ALL_EVERY = 60.0
"""Seconds until a sweep of all queues although this worker's have nothing to do. It
renews the lock that keeps RQ's own scheduler out, which lasts 150 s."""

SWEEP_BESIDE = 0.5
"""Seconds between sweeps while RQ's own scheduler has not let go of a queue yet."""

PRUNE_EVERY = 60.0
"""Seconds between removals of what has expired from RQ's sets."""

PRUNE_AGAIN = 2.0
"""Seconds between them while there is more than one call removes."""

MOST_PROMOTED = 500
"""Due jobs of a queue moved in one call: about 10 ms of the server's time."""

MOST_UNPARKED = 500
"""Parked jobs of a task looked at in one call."""

MOST_PRUNED = 1000
"""Members taken out of a set in one call."""

LATER = float("inf")


@dataclass(slots=True)
class Clock:
    """When each duty is due, by the monotonic clock."""

    renew: float = 0.0
    sweep: float = 0.0
    promote: float = LATER
    prune: float = field(default_factory=lambda: time.monotonic() + PRUNE_EVERY)

    @property
    def next(self) -> float:
        """When the next one is."""
        return min(self.renew, self.sweep, self.promote, self.prune)


class Upkeep:
    """One worker's duties towards Redis.

    :param client: The supervisor's own.
    """

    def __init__(
        self, state: AppState, client: Redis, name: str, queues: Sequence[str]
    ) -> None:
        self._state = state
        self._client = client
        self._name = name
        self._queues = queues
        self._birth = datetime.now(UTC)
        self._version = metadata.version("Flask-TaskQueue")
        self._tally = Tally()
        self._neighbours = Neighbours()
        self._nothing_at = -SWEEP_GAP
        self._swept_all_at = -SWEEP_ALL_EVERY
        self.clock: Clock = Clock()
        self.suspended: bool = False
        self.paused: Collection[str] = ()
        self.about: dict[str, Argument] = {}
        """More fields of the record: what :mod:`..fleet` reads of them."""

    def has_news(self, seats: Sequence[Seat]) -> bool:
        """Something runs, or has run since the last renewal."""
        return self._tally.has_news(seats)

    def renew(self, seats: Sequence[Seat], lease: float = LEASE) -> Renewed:
        """Extend the leases of what runs, flush counters and the record.

        :param lease: Seconds from now on.
        """
        seen = {seat.label: seat.board.read() for seat in seats}
        held = [lease for state in seen.values() for lease in state.leases]
        running = [state.lease.id for state in seen.values() if state.lease]
        totals = self._tally.totals(seats)
        answer = scripts.renew(
            self._client,
            self._name,
            lease=lease,
            record_ttl=RECORD_TTL,
            record=self._record(running),
            counters=self._tally.since(totals),
            queues=self._queues,
            held=held,
        )
        self._tally.tell(totals, seats)
        pause = RENEW_EVERY if held else HEARTBEAT_EVERY
        self.clock.renew = time.monotonic() + pause
        return answer

    def _record(self, running: Sequence[str]) -> dict[str, Argument]:
        """RQ's fields of a worker (rq 2.12, BaseWorker.serialize), and ours.

        :param running: Ids of the jobs that run.
        """
        return {
            "birth": self._birth.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "queues": ",".join(self._queues),
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "ip_address": "unknown",
            "version": VERSION,
            "python_version": platform.python_version(),
            "state": "busy" if running else "idle",
            "current_job": running[0] if running else "",
            "tq_version": self._version,
            "tq_jobs": json.dumps(running),
            **self.about,
        }

    def sweep(self) -> int:
        """Recover, promote, unpark and prune what this worker can.

        :return: How many jobs there may be that no waiter sees.
        """
        now = time.monotonic()
        if now >= self.clock.prune:
            removed, mixed = scripts.prune(self._client, most=MOST_PRUNED)
            self._neighbours.warn_of_workers(mixed)
            is_more = removed >= MOST_PRUNED
            self.clock.prune = now + (PRUNE_AGAIN if is_more else PRUNE_EVERY)
        swept, unparked = Swept(), 0
        if self._is_something_to_do() or now - self._swept_all_at >= SWEEP_ALL_EVERY:
            swept = self._sweep_all(now)
            self._swept_all_at = now
            unparked = sum(map(self._unpark, filter(self._knows, swept.parked)))
        # On time where a lease ends sooner: what it held is not to wait any longer.
        pause = SWEEP_BESIDE if swept.kept_out else SWEEP_EVERY
        lapse = pause if swept.next_lapse is None else swept.next_lapse
        self.clock.sweep = now + min(pause, max(lapse, SWEEP_LEAST))
        self._plan_promotion(swept.next_due)
        self.suspended, self.paused = swept.suspended, swept.paused
        if self.suspended:
            return 0
        queues = set(self._queues)
        left = set(swept.ready) & queues - set(self.paused)
        return len(left) + unparked + len(swept.aftermath & queues)

    def _is_something_to_do(self) -> bool:
        """One command instead of a script's many: an idle worker costs little."""
        names = ("followups", "parked_names", "paused", "suspended", "aftermath")
        prefixes = ("wip", "scheduled", "ready")
        look = [keys.NAMES[name] for name in names]
        look += [keys.PREFIXES[name] + q for q in self._queues for name in prefixes]
        client: t.Any = self._client
        if client.exists(*look):
            return True
        self._nothing_at = time.monotonic()
        return False

    def _sweep_all(self, now: float) -> Swept:
        empty = self._queues if now - self._nothing_at < SWEEP_GAP else ()
        swept = scripts.sweep(
            self._client,
            gap=SWEEP_GAP,
            lease=LEASE,
            most=MOST_PROMOTED,
            empty=empty,
            queues=self._queues,
        )
        self._neighbours.warn_of_schedulers(swept.kept_out)
        for job in swept.recovered:
            if job.what == "failed":
                log_lost(self._client, job.id, job.queue)
            elif job.what != "gone":
                logger.warning(
                    "Job %s of queue %s was lost by its worker: %s",
                    job.id, job.queue, job.what,
                    extra={"job_id": job.id, "queue": job.queue, "task": ""},
                )  # fmt: skip
        return swept

    def _unpark(self, name: str) -> int:
        moved = scripts.unpark(
            self._client, name, most=MOST_UNPARKED, queues=self._queues
        )
        if moved:
            logger.info("%d parked jobs of %s are back", moved, name)
        return moved

    def _knows(self, name: str) -> bool:
        config = self._state.config
        return name in self._state.tasks or is_admitted(name, config.importable)

    def promote(self) -> None:
        """Move what is due in this worker's queues."""
        self._plan_promotion(
            scripts.promote(self._client, self._queues, most=MOST_PROMOTED)
        )

    def _plan_promotion(self, seconds: float | None) -> None:
        self.clock.promote = LATER if seconds is None else time.monotonic() + seconds

    def adopt(self, heritage: Heritage) -> None:
        """Go on with the record of the program before."""
        self._birth = datetime.fromtimestamp(heritage.birth, UTC)
        flushed = heritage.flushed.items()
        self._tally.told = {label: (row[0], row[1], row[2]) for label, row in flushed}

    def legacy(self) -> dict[str, t.Any]:
        """What :meth:`adopt` needs."""
        return {"birth": self._birth.timestamp(), "flushed": self._tally.told}

    def leave_queues(self) -> None:
        """Serve no queue until the next renewal; its record stays."""
        client: t.Any = self._client
        with client.pipeline() as pipe:
            for queue in self._queues:
                name = keys.PREFIXES["workers_of"] + queue
                pipe.srem(name, keys.worker(self._name))
            # The renewal that adds a field adds the worker to its queues.
            pipe.hdel(keys.worker(self._name), "python_version")
            pipe.execute()

    def unregister(self) -> None:
        """Take this worker out of RQ's sets."""
        client: t.Any = self._client
        with client.pipeline() as pipe:
            key = keys.worker(self._name)
            pipe.srem(keys.NAMES["workers"], key)
            for queue in self._queues:
                pipe.srem(keys.PREFIXES["workers_of"] + queue, key)
            pipe.delete(key)
            pipe.execute()
