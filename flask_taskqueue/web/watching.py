"""One Redis connection of an app in a process: all its streams and waits listen there.

A request that waits has a :class:`Watch`. One thread listens to the channels of all
jobs that are watched, reads those that changed, in one round trip, and hands each
watch what it found. The thread begins with the first watch and ends when there has
been none for a while.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress

from flask import Response
from redis.exceptions import RedisError

from .. import inspector, keys
from ..appstate import AppState
from ..broker.connection import Backoff, Subscription
from ..errors import BrokerUnavailable
from ..inspector import Snapshot

LOOK_EVERY = 5.0
"""Seconds after which all jobs watched are read again: what RQ's own tools change, they
do not tell; and a connection that fell silent shows."""

IDLE = 10.0
"""Seconds without a watch after which thread and connection end. Browsers come back
within one."""

PATIENCE = 2.0
"""Seconds a request waits until a job has been read for the first time."""

_PREFIX = len(keys.changes(""))


class Watch:
    """One request's eye on a job: gives the newest of what was read, not all."""

    def __init__(self, hub: Hub, job_id: str) -> None:
        self.job_id = job_id
        self._hub = hub
        self._news: Snapshot | Exception | None = None
        self._there = threading.Event()

    def first(self) -> Snapshot:
        """The job as it is now: from here on no change is missed.

        :raises BrokerUnavailable: Redis did not answer within 2 s.
        :raises DecodeError: What is stored of it cannot be read.
        """
        deadline = time.monotonic() + PATIENCE
        try:
            job = self.next(PATIENCE)
        except BrokerUnavailable:
            # The connection may have broken while nobody watched: once more.
            job = self.next(deadline - time.monotonic())
        if job is None:
            raise BrokerUnavailable(f"no answer within {PATIENCE:g} s")
        return job

    def next(self, timeout: float) -> Snapshot | None:
        """Wait until the job was read again, which is when it may have changed.

        :param timeout: Seconds after which there is ``None``.
        :raises BrokerUnavailable: Redis is away; a later call may go better.
        :raises DecodeError: What is stored of it cannot be read.
        """
        if not self._there.wait(max(timeout, 0)):
            return None
        self._there.clear()
        if isinstance(self._news, Exception):
            raise self._news.with_traceback(None)
        return self._news

    def end_with(self, answer: Response) -> None:
        """Close when an answer is closed, or dropped: an app may put another one in
        its place."""
        answer.call_on_close(self.close)
        weakref.finalize(answer, self.close).atexit = False

    def tell(self, news: Snapshot | Exception) -> None:
        """Hand over what was read, or why nothing could be."""
        self._news = news
        self._there.set()

    def close(self) -> None:
        """Watch no more. May be called again."""
        self._hub.drop(self)


class Hub:
    """The watches of one app in one process.

    :param most: Watches there can be at once.
    """

    def __init__(self, state: AppState, most: int) -> None:
        self._pid = os.getpid()
        self._state = state
        self._most = most
        # Held for moments only, and never while waiting. Garbage is collected at any
        # moment: a watch may be dropped by the thread that holds it.
        self._lock = threading.RLock()
        self._watches: dict[str, set[Watch]] = {}
        self._count = 0
        self._fresh: set[str] = set()
        self._listener: _Listener | None = None

    def watch(self, job_id: str) -> Watch | None:
        """Begin to watch a job; ``None`` where there are too many already.

        :return: To be closed by the caller.
        """
        watch = Watch(self, job_id)
        with self._lock:
            if self._count >= self._most:
                return None
            if self._listener is None:
                listener = _Listener(self, self._state)
                listener.start()
                self._listener = listener
            self._count += 1
            self._watches.setdefault(job_id, set()).add(watch)
            self._fresh.add(job_id)
            self._listener.wake()
        return watch

    def drop(self, watch: Watch) -> None:
        """Forget a watch."""
        if os.getpid() != self._pid:
            # A thread that this forked child has not may hold the lock for ever.
            return
        with self._lock:
            watches = self._watches.get(watch.job_id, set())
            if watch in watches:
                watches.remove(watch)
                self._count -= 1
            if not watches:
                self._watches.pop(watch.job_id, None)

    def wanted(self) -> tuple[set[str], set[str]]:
        """Ids of the jobs watched, and of those with a watch that is new."""
        with self._lock:
            wanted = set(self._watches)
            fresh, self._fresh = self._fresh & wanted, set()
            return wanted, fresh

    def tell(self, found: Mapping[str, Snapshot | Exception]) -> None:
        """Hand what was found, by id, to whoever watches."""
        with self._lock:
            for job_id, news in found.items():
                for watch in tuple(self._watches.get(job_id, ())):
                    watch.tell(news)

    def let_end(self, listener: _Listener) -> bool:
        """Whether a thread may end: nobody watches. The next watch begins another."""
        with self._lock:
            if self._watches:
                return False
            self.ended(listener)
            return True

    def ended(self, listener: _Listener) -> None:
        """Let the next watch begin another thread."""
        with self._lock:
            if self._listener is listener:
                self._listener = None


class _Listener(threading.Thread):
    """Listens, reads and tells until nobody watches."""

    def __init__(self, hub: Hub, state: AppState) -> None:
        super().__init__(name="taskqueue-watching", daemon=True)
        self._hub = hub
        self._state = state
        # Of its own: what closes the shared ones must not meet it half-way.
        self._client = state.broker.supervisor()
        self._subscription = Subscription(self._client)
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._subscription.close()
        self._heard: set[str] = set()
        self._look_at = 0.0

    def wake(self) -> None:
        """Let it see that there is a new watch."""
        with suppress(BlockingIOError):  # It is about to wake as it is.
            self._mouth.send(b"\0")

    def run(self) -> None:
        """The thread."""
        try:
            self._listen()
        finally:
            self._hub.ended(self)
            self._subscription.close()
            self._client.close()
            self._ear.close()
            self._mouth.close()

    def _listen(self) -> None:
        backoff = Backoff()
        watched_at = time.monotonic()
        while True:
            wanted, fresh = self._hub.wanted()
            now = time.monotonic()
            if wanted:
                watched_at = now
            elif now - watched_at > IDLE and self._hub.let_end(self):
                return
            try:
                with self._state.broker.errors():
                    self._turn(wanted, fresh)
                backoff.reset()
                self._wait(self._look_at - time.monotonic(), self._subscription)
            except (RedisError, OSError) as error:
                self._begin_anew()
                if self._hub.let_end(self):
                    return
                self._hub.tell(dict.fromkeys(self._hub.wanted()[0], error))
                self._wait(backoff.next())

    def _turn(self, wanted: set[str], fresh: set[str]) -> None:
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            fresh = wanted
        self._subscription.connect()
        self._subscription.leave(_channels(self._heard - wanted))
        # Before they are read: of a change after that there will be a message.
        self._subscription.listen(_channels(fresh))
        self._heard = wanted
        said = {name[_PREFIX:] for name, _ in self._subscription.messages()}
        if changed := sorted(fresh | (said & wanted)):
            self._hub.tell(inspector.snapshots(self._state, changed))

    def _wait(self, seconds: float, *listened: Subscription) -> None:
        """Until a message comes, a watch begins or the time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            for subscription in listened:
                selector.register(subscription, selectors.EVENT_READ)
            selector.select(max(seconds, 0))
        with suppress(BlockingIOError):
            self._ear.recv(4096)


def _channels(job_ids: Iterable[str]) -> list[str]:
    return [keys.changes(job_id) for job_id in job_ids]


def hub_of(state: AppState) -> Hub:
    """The hub of an app in this process: a forked child has one of its own."""
    name = "taskqueue.watching"
    hubs: dict[int, Hub] = state.app.extensions.setdefault(name, {})
    pid = os.getpid()
    found = hubs.get(pid)
    if found is None:
        # Of two made at once one is dropped, before anybody watches.
        found = hubs.setdefault(pid, Hub(state, state.config.max_streams))
        for parent in hubs.keys() - {pid}:
            hubs.pop(parent, None)
    return found
