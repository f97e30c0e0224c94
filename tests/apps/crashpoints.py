"""Operations that are killed between two commands for Redis, forked from one process.

Each line of stdin is ``{"do": operation, "at": n, "how": h}``. A process is forked that
gets ready, and then does it; at its ``n``-th command it kills itself ``before`` or
``after`` that is sent. The answer is a line: how it ended, its exit status or minus the
signal.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import traceback
import typing as t
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import redis
from flask import Flask

from flask_taskqueue import AsyncResult, Task, TaskQueue, control, producer
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Lease
from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.burial import Burials
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.loop import Slot
from flask_taskqueue.worker.pools import Seat
from flask_taskqueue.worker.upkeep import Upkeep

WORKER = "crashing"
QUEUES = ("default", "mail")

tq = TaskQueue()


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update({"TASKQUEUE_QUEUES": QUEUES, **config})
    tq.init_app(app)
    return app


def note(job_id: str) -> None:
    with open("ledger", "a") as ledger:
        ledger.write(job_id + "\n")


@tq.task(bind=True)
def work(self: Task[..., None], *args: object) -> None:
    note(self.request.id)


@tq.task(bind=True)
def fail(self: Task[[], None]) -> None:
    note(self.request.id)
    raise ValueError("as it should")


@tq.task(bind=True, max_retries=1)
def again(self: Task[[float], None], countdown: float) -> None:
    note(self.request.id)
    if self.request.retries == 0:
        raise self.retry(countdown=countdown)


@tq.task(bind=True, on_worker_lost="fail")
def once(self: Task[[], None]) -> None:
    note(self.request.id)


def put(task: Task[..., t.Any], job_id: str, *args: object, **options: t.Any) -> None:
    task.apply_async(args, task_id=job_id, **options)


def client() -> redis.Redis:
    return tq.state.broker.producer


def claim(label: str, call: int, queues: tuple[str, ...] = QUEUES) -> Lease:
    """The next job, as a slot would have it."""
    wanted = Claim(WORKER, f"{WORKER}.{label}.", call, 10.0, queues)
    found = scripts.claim(client(), wanted).job
    assert found is not None
    return found.lease


def sit_down(label: str) -> tuple[Place, Seat]:
    """A slot's place, and what its supervisor has of it. The slot is heard, and once
    it waits to be woken it hears that its supervisor is gone."""
    ours, theirs = socket.socketpair()
    ours.shutdown(socket.SHUT_WR)
    place = Place(
        worker=WORKER, label=label, queues=QUEUES, board=Board(), channel=theirs
    )
    return place, Seat(place, ours)


place: Place
seat: Seat
"""Made before each fork: its board is all that a dead slot leaves."""


def run_slot() -> None:
    """A real slot, until nothing is left to be done."""
    Slot(tq.state, place, NoTimer()).run()


def lost_seat(label: str, *leases: Lease) -> Seat:
    """What a dead slot leaves: its board names what ran, the first of its leases."""
    _, seat = sit_down(label)
    seat.board.claimed(len(leases), leases)
    seat.board.begin(0, None)
    seat.board.connected(10**9)
    return seat


# Each gets ready, yields, and does one thing.


def enqueue() -> Iterator[None]:
    yield
    put(work, "a")


def enqueue_later() -> Iterator[None]:
    yield
    put(work, "a", countdown=60)


def replace() -> Iterator[None]:
    put(work, "a")
    AsyncResult("a").revoke()
    yield
    put(work, "a", queue="mail")


def enqueue_many() -> Iterator[None]:
    yield
    work.delay_many([(n,) for n in range(7)])


def slot() -> Iterator[None]:
    put(work, "links", link=work.s().set(task_id="linked"))
    put(fail, "fails", link_error=work.s().set(task_id="told"))
    put(again, "again", 0)
    put(again, "later", 60)
    tq.send_task("nowhere", (), task_id="parked")
    put(work, "expires", expires=datetime(2020, 1, 1, tzinfo=UTC))
    put(work, "revoked")
    AsyncResult("revoked").revoke()
    put(work, "last")
    yield
    run_slot()


def slot_of_a_child() -> Iterator[None]:
    """Its supervisor lives, and buries it."""
    yield from slot()


def revoke() -> Iterator[None]:
    put(work, "running")
    claim("1", 1)
    put(work, "waits")
    put(work, "scheduled", countdown=60)
    tq.send_task("nowhere", (), task_id="parked", queue="mail")
    scripts.park(client(), claim("1", 2), "nowhere")
    yield
    AsyncResult("running").revoke(terminate=True)
    for job_id in ("waits", "scheduled", "parked"):
        AsyncResult(job_id).revoke()


def requeue() -> Iterator[None]:
    yield from _with_failed()
    control.requeue(tq.state, "f0")
    control.requeue_failed(tq.state, *QUEUES)


def requeue_by_command() -> Iterator[None]:
    yield from _with_failed()
    flask("tasks", "requeue", "--failed")


def _with_failed() -> Iterator[None]:
    for n in range(7):
        put(fail, f"f{n}")
    run_slot()
    yield


def purge_by_command() -> Iterator[None]:
    for n in range(4):
        put(work, f"q{n}")
        put(work, f"s{n}", countdown=60)
        tq.send_task("nowhere", (), task_id=f"p{n}", queue="mail")
    for n in range(4):
        scripts.park(client(), claim("1", n, ("mail",)), "nowhere")
    yield
    flask("tasks", "purge", "default", "--yes", "--scheduled")
    flask("tasks", "purge", "mail", "--yes", "--deferred")


def flask(*args: str) -> None:
    answer = tq.state.app.test_cli_runner().invoke(args=args, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output


def forget() -> Iterator[None]:
    yield from _with_failed()
    AsyncResult("f0").forget()


def burials() -> Burials:
    return Burials(tq.state, client(), QUEUES)


def child_dies() -> Iterator[None]:
    for job_id in ("ran", "claimed", "waits"):
        put(work, job_id)
    seat = lost_seat("1", claim("1", 1), claim("1", 2))
    yield
    dead = burials()
    dead.recover([seat], "killed by signal 9 (SIGKILL)")
    dead.work_off()


def limit_is_over() -> Iterator[None]:
    put(work, "ran", link_error=work.s().set(task_id="told"))
    put(work, "claimed")
    seat = lost_seat("1", claim("1", 1), claim("1", 2))
    yield
    dead = burials()
    dead.end_overdue(seat)
    dead.work_off()


def worker_stops() -> Iterator[None]:
    put(once, "once")
    for n in range(3):
        put(work, f"ran{n}")
    seats = [lost_seat(str(n), claim(str(n), 1)) for n in range(4)]
    yield
    dead = burials()
    dead.give_back(seats)
    dead.work_off()


def upkeep() -> Iterator[None]:
    for job_id in ("lost", "known"):
        put(work, job_id)
    put(once, "once")
    put(work, "due", countdown=60)
    untyped: t.Any = client()
    lost, known, once_lost = claim("1", 1), claim("1", 2), claim("1", 3)
    for lease in (lost, once_lost):
        untyped.zadd("rq:wip:default", {f"{lease.id}:{lease.execution}": 1.0})
    untyped.zadd("rq:scheduled:default", {"due": 1.0})
    untyped.zadd("rq:finished:default", {"gone": 1.0})
    scripts.park(untyped, known, work.name)
    looks = Upkeep(tq.state, client(), WORKER, QUEUES)
    looks.clock.prune = 0.0
    untyped.set("tq:swept", untyped.time()[0])
    yield
    looks.renew([])
    looks.sweep()
    looks.promote()
    looks.unregister()


OPERATIONS = (
    enqueue, enqueue_later, replace, enqueue_many, slot, slot_of_a_child, revoke,
    requeue, requeue_by_command, purge_by_command, forget, child_dies, limit_is_over,
    worker_stops, upkeep,
)  # fmt: skip


def commands(sent: bytes) -> Iterator[bytes]:
    """The single commands of what is sent as a whole."""
    start = 0
    while start < len(sent):
        at = sent.index(b"\r\n", start) + 2
        for _ in range(int(sent[start + 1 : at - 2])):
            header = sent.index(b"\r\n", at)
            at = header + 2 + int(sent[at + 1 : header]) + 2
        yield sent[start:at]
        start = at


def end_at(number: int, how: str) -> None:
    """Kill this process at a command that it is about to send: whoever packs it, on
    whatever connection."""
    send = socket.socket.sendall
    counted = itertools.count(1)

    def send_each(link: t.Any, data: t.Any, *flags: int) -> None:
        for command in commands(bytes(data)):
            reached = next(counted) == number
            if reached and how == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            send(link, command, *flags)
            if reached:
                os.kill(os.getpid(), signal.SIGKILL)

    socket.socket.sendall = send_each  # type: ignore[assignment, method-assign]


def do(app: Flask, order: dict[str, t.Any]) -> None:
    # A few jobs are many.
    producer.BATCH = control.STEP = 3
    operation = {one.__name__: one for one in OPERATIONS}[order["do"]]
    with app.app_context():
        steps = operation()
        next(steps)
        if order["how"] == "after":
            # Twice as many commands: each script is to be sent as a whole.
            t.cast(t.Any, client()).script_flush()
        end_at(order["at"], order["how"])
        next(steps, None)


def bury(app: Flask) -> None:
    with app.app_context():
        dead = burials()
        dead.recover([seat], "killed by signal 9 (SIGKILL)")
        dead.work_off()


def fork(work: Callable[[], None]) -> int:
    """Do something in a process of its own; how that ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    global place, seat
    app = create_app()
    for line in sys.stdin:
        order = json.loads(line)
        place, seat = sit_down("1")
        answer = fork(partial(do, app, order))
        if answer and order["do"] == slot_of_a_child.__name__:
            assert fork(partial(bury, app)) == 0
        seat.close()
        place.channel.close()
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
