"""A beat that dies, or freezes, between any two commands: no entry suffers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import redis

from ..processes import AppFolder
from ..servers import eventually
from .books import Books, assert_on_grid

EVERY = 0.02
"""Seconds between two due times."""

MOST = 1000
"""Commands after which a beat should have ended by itself."""

LOOKS = 3


class Forge:
    """Forks beats; see ``tests/apps/crashing.py``."""

    def __init__(self, folder: AppFolder) -> None:
        self._log = folder.folder / "crashing.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(folder.module_path)],
                cwd=folder.folder,
                env=folder.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def start(
        self, schedule: dict[str, t.Any], looks: int = LOOKS, **how: t.Any
    ) -> int:
        """Start a beat; its pid."""
        return self._ask({"start": schedule, "looks": looks, **how})

    def wait(self, pid: int) -> int:
        """Wait for its end; its exit status, or minus the signal."""
        return self._ask({"wait": pid})

    def end(self, pid: int) -> int:
        """Stop it in good order; its exit status."""
        os.kill(pid, signal.SIGTERM)
        return self.wait(pid)

    def _ask(self, order: dict[str, t.Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    @property
    def output(self) -> str:
        """What its beats printed."""
        return self._log.read_text("utf-8")

    def close(self) -> None:
        """Kill it with all its beats."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=10)


@pytest.fixture
def forge(tmp_path: Path, redis_url: str) -> t.Iterator[Forge]:
    folder = AppFolder(tmp_path, redis_url, "crashing")
    forge = Forge(folder)
    yield forge
    forge.close()


@pytest.fixture
def books(client: redis.Redis) -> Books:
    return Books(client, "crashing")


def work(*args: object, every: float = EVERY, **parts: object) -> dict[str, t.Any]:
    return {"task": "work", "schedule": every, "args": args, **parts}


def release(number: int) -> dict[str, t.Any]:
    """What the code of a release declares: others than that of the one before."""
    return {
        "kept": work(),
        "changed": work(number),
        "skipped": work(overlap="skip"),
        "moved": work(every=EVERY + number % 5 / 1000),
        f"only-{number % 2}": work(),
    }


ALWAYS = {"kept", "changed", "skipped", "moved"}


def go_on(forge: Forge, books: Books, number: int) -> None:
    """Let a beat fire all that is due by now."""
    beat = forge.start(release(number), looks=MOST)
    books.await_firings(ALWAYS)
    assert forge.end(beat) == 0, forge.output


def assert_all_fired(books: Books) -> None:
    """No due time is missing and none was fired twice, over all releases."""
    books.assert_each_once("kept", EVERY)
    books.assert_each_once("changed", EVERY)
    dues = [row.due for row in books.rows("skipped")]
    assert_on_grid(dues, round(EVERY * 1_000_000), "skipped")
    assert len(books.assert_none_twice("skipped")) == 1
    for name in ("moved", "only-0", "only-1"):
        books.assert_none_twice(name)


def assert_nothing_left(books: Books) -> None:
    """Of entries that were removed nothing stays but their jobs."""
    ids = {books.id(name) for name in books.names()}
    histories = {key.decode() for key in books.client.keys("tq:firings:*")}
    assert histories <= {f"tq:firings:{id}" for id in ids}
    jobs = books.client.keys("rq:job:*")
    mirrors = {key.decode() for key in jobs if books.client.hexists(key, "tq_entry")}
    assert mirrors == {f"rq:job:{id}" for id in ids}


@pytest.mark.parametrize(
    ("how", "forgets"),
    [
        pytest.param("before", False, id="before"),
        pytest.param("after", False, id="after"),
        pytest.param("before", True, id="before-with-scripts-unknown"),
    ],
)
def test_a_beat_killed_at_any_command_leaves_every_entry_due(
    forge: Forge, books: Books, how: str, forgets: bool
):
    """Each beat is the one that goes on where the one before it was killed."""
    assert forge.wait(forge.start(release(0), looks=1)) == 0, forge.output
    for number in range(1, MOST):
        if forgets:
            books.client.script_flush()
        status = forge.wait(forge.start(release(number), at=number, how=how))
        books.await_no_beat()
        names = books.names()
        assert ALWAYS < names <= ALWAYS | {"only-0", "only-1"}
        books.end_lease()
        if status == 0:
            break
        assert status == -signal.SIGKILL, forge.output
    assert 30 < number < MOST - 1, "commands of a beat"
    go_on(forge, books, number)
    assert books.names() == set(release(number))
    assert_all_fired(books)
    assert_nothing_left(books)
    assert forge.output == ""


def await_frozen(pid: int) -> bool:
    """Wait until a process has stopped itself; ``False`` if it ended instead."""

    def state() -> str:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        found = status.split()[0]
        return found if found in "TZ" else ""

    return eventually(state) == "T"


def test_a_beat_frozen_at_any_command_fires_nothing_twice(forge: Forge, books: Books):
    """Another one fires what it was about to; then both go on."""
    assert forge.wait(forge.start(release(0), looks=1)) == 0, forge.output
    for number in range(1, MOST):
        frozen = forge.start(release(number), at=number, how="freeze")
        if not await_frozen(frozen):
            break
        books.end_lease()
        other = forge.start(release(number), looks=MOST)
        books.await_firings(ALWAYS)
        os.kill(frozen, signal.SIGCONT)
        books.await_firings(ALWAYS)
        assert (forge.end(frozen), forge.end(other)) == (0, 0), forge.output
        assert books.names() == set(release(number))
    assert 30 < number < MOST - 1, "commands of a beat"
    assert forge.wait(frozen) == 0, forge.output
    assert_all_fired(books)
    assert_nothing_left(books)
    assert forge.output == ""
