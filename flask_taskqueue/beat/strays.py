"""Finds plain schedulers of RQ's family beside a beat, and warns about them."""

from __future__ import annotations

import logging
import time

from redis import Redis

from .. import keys
from ..broker.loading import Client
from ..broker.wire import text
from ..seldom import Seldom

logger: logging.Logger = logging.getLogger(__name__)

WARN_EVERY = 600.0
"""Seconds between two warnings of the same kind."""

STEP = 500
"""Keys that one step looks at: it takes the server well below a millisecond."""

FIRST_STEPS = 20
"""Steps taken at once when a beat begins to lead."""

STEP_EVERY = 2.0
"""Seconds between two steps of a pass."""

PASS_EVERY = 10.0
"""Seconds between the last step of a pass over all keys and the first of the next."""

SAMPLE = 100
"""Members of rq-scheduler's set that are looked at: the first by due time, where
entries that nobody fires gather."""

SAMPLE_EVERY = 60.0
"""Seconds between two readings of the sample."""

_OF_RQ_SCHEDULER = keys.PREFIXES["scheduler_instance"].encode()
_OF_RQ = keys.PREFIXES["scheduler"].encode()

_IDLE = (
    " entries do not fire while a beat runs: 'flask beat import' turns them into"
    " entries of beat, or says why it cannot"
)
_RUNS = f"A plain rqscheduler runs beside this beat. Its{_IDLE}"
_IN_SET = (
    "%d of the first %d entries in rq-scheduler's set are not beat's."
    f" rq-scheduler's{_IDLE}"
)
_OF_WORKER = (
    "A plain rq worker runs its scheduler here (%s). It fires no entries of beat;"
    " jobs of this app want 'flask worker'"
)


class Strays:
    """What one beat knows of plain schedulers on its database.

    :param client: The beat's own.
    """

    def __init__(self, client: Redis) -> None:
        self._client: Client = client
        self._cursor = 0
        self._step_at = 0.0
        self._sample_at = 0.0
        self._steps = FIRST_STEPS
        self._seldom = Seldom(WARN_EVERY)

    def search(self, *, foreign: bool) -> None:
        """Do what is due of the search; cheap when nothing is.

        :param foreign: A plain rqscheduler held its lock just now.
        """
        now = time.monotonic()
        if foreign:
            self._warn(_RUNS)
        if now >= self._step_at:
            self._scan(now)
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_EVERY
            self._judge_sample()

    def _scan(self, now: float) -> None:
        """Some steps of a pass over all keys: there is no list of such schedulers."""
        for _ in range(self._steps):
            self._cursor, found = self._client.scan(
                self._cursor, match="rq:scheduler*", count=STEP, _type="hash"
            )
            for key in found:
                self._judge(key)
            if self._cursor == 0:
                break
        self._steps = 1
        self._step_at = now + (STEP_EVERY if self._cursor else PASS_EVERY)

    def _judge(self, key: bytes) -> None:
        if key.startswith(_OF_RQ_SCHEDULER):
            if not self._client.hexists(key, "death"):
                self._warn(_RUNS)
        elif key.startswith(_OF_RQ):
            host, pid = self._client.hmget(key, "hostname", "pid")
            if host is not None and pid is not None:
                self._warn(_OF_WORKER, f"{text(host)!r} {text(pid)!r}")

    def _judge_sample(self) -> None:
        members = self._client.zrange(keys.NAMES["scheduler_set"], 0, SAMPLE - 1)
        with self._client.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.exists(keys.entry(text(member)))
            foreign = pipe.execute().count(0)
        if foreign:
            self._warn(_IN_SET, foreign, len(members))

    def _warn(self, message: str, *about: object) -> None:
        """Log it, unless one of its kind was: a message is a kind."""
        if self._seldom.may_say(message):
            logger.warning(message, *about)
