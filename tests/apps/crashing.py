"""Beats that die or freeze between two commands for Redis, forked from one process.

Each line of stdin is a JSON object; each answer is a line, too:

* ``{"start": schedule, "at": n, "how": h, "looks": m}`` forks a beat that declares this
  schedule and ends after ``m`` looks that fired something. At its ``n``-th command it
  kills itself ``before`` or ``after`` that is sent, or stops itself before it
  (``freeze``): ``h``. Without ``at`` it does neither. Answers its pid.
* ``{"wait": pid}`` answers how it ended: its exit status, or minus the signal.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import traceback
import typing as t

from flask import Flask
from redis.connection import AbstractConnection

from flask_taskqueue import TaskQueue, signals
from flask_taskqueue.beat import service
from flask_taskqueue.beat.declared import declared

_beats = itertools.count(1)


def create_app(schedule: dict[str, t.Any]) -> tuple[Flask, TaskQueue]:
    app = Flask("crashing")
    app.config.from_prefixed_env()
    app.config["TASKQUEUE_BEAT_SCHEDULE"] = schedule
    tq = TaskQueue(app)
    tq.task(name="work")(lambda *args: None)
    return app, tq


def commands(sent: bytes) -> t.Iterator[bytes]:
    """The single commands of what a pipeline sends as a whole."""
    start = 0
    while start < len(sent):
        at = sent.index(b"\r\n", start) + 2
        for _ in range(int(sent[start + 1 : at - 2])):
            header = sent.index(b"\r\n", at)
            at = header + 2 + int(sent[at + 1 : header]) + 2
        yield sent[start:at]
        start = at


def end_at(number: int, how: str) -> None:
    """Kill or stop this process at a command that it is about to send."""
    send = AbstractConnection.send_packed_command
    counted = itertools.count(1)
    me = os.getpid()

    def send_one(connection: t.Any, command: bytes, check: bool) -> None:
        reached = next(counted) == number
        if reached and how != "after":
            os.kill(me, signal.SIGSTOP if how == "freeze" else signal.SIGKILL)
        send(connection, [command], check)
        if reached and how == "after":
            os.kill(me, signal.SIGKILL)

    def send_each(connection: t.Any, packed: t.Any, check_health: bool = True) -> None:
        for command in commands(b"".join(packed)):
            send_one(connection, command, check_health)

    AbstractConnection.send_packed_command = send_each


def run(order: dict[str, t.Any], name: str) -> None:
    app, tq = create_app(order["start"])
    found, problems = declared(tq.state_of(app))
    assert not problems, problems
    beat = service.Beat(tq.state_of(app), name, found)
    fired = itertools.count(1)

    def count(app: Flask, jobs: t.Sequence[str], **about: object) -> None:
        if jobs and next(fired) == order["looks"]:
            beat.request_stop()

    signals.beat_tick.connect(count, app)
    beat.install_signals()
    if "at" in order:
        end_at(order["at"], order["how"])
    beat.run()


def fork(order: dict[str, t.Any], name: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run(order, name)
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    # So that a beat need not read a module after it was forked.
    create_app({})
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer = fork(order, f"beat-{next(_beats)}")
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
