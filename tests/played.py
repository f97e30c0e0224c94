"""Slots that a test plays: what their supervisor sees of them, and their jobs."""

from __future__ import annotations

import socket
import typing as t

from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Argument, Claim, Ended, Lease, NewJob
from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.pools import Seat

Client = t.Any

WORKER = "w.1.abc"


class Slot:
    """One that is played by the test: its board, its tokens, what it holds."""

    def __init__(self, client: Client, label: str = "1") -> None:
        ours, self.channel = socket.socketpair()
        self.channel.setblocking(False)
        self.place = Place(
            worker=WORKER, label=label, queues=("q",), board=Board(),
            channel=self.channel,
        )  # fmt: skip
        self.seat = Seat(self.place, ours)
        self.board = self.place.board
        self.leases: list[Lease] = []
        self._client = client
        self._calls = 0

    def claim(self, most: int = 16, *, sent: bool = False) -> list[str]:
        """Claim; the ids it got."""
        self.hear(self._ask(most, ahead=False), sent=sent)
        return [lease.id for lease in self.leases]

    def ask(self, most: int = 16) -> list[Lease]:
        """Ask for the next jobs while some run; what the server answers, unheard."""
        self.board.asks(self._calls + 1, self._calls + most)
        return self._ask(most, ahead=True)

    def _ask(self, most: int, ahead: bool) -> list[Lease]:
        first = self._calls + 1
        self._calls += most
        prefix = self.place.prefix
        wanted = Claim(WORKER, prefix, first, 10.0, ("q",), most, ahead)
        jobs = scripts.claim(self._client, wanted).jobs
        return [claimed.lease for claimed in jobs]

    def hear(
        self, leases: list[Lease], *, sent: bool = False, ahead: bool = False
    ) -> None:
        """Hear what it asked for."""
        self.leases = leases
        self.board.claimed(self._calls, leases, sent=sent, ahead=ahead)
        if len(leases) > 1:
            self.board.tokens.add(len(leases) - 1)

    def begin(self, at: int) -> bool:
        """Begin a job if it still may."""
        if at and not self.board.tokens.take():
            return False
        self.board.begin(at, None)
        return True

    def end(self, at: int) -> None:
        """End it and keep that back."""
        self.board.returned(at)
        assert self.board.keep(row(self.leases[at]))

    def heard(self) -> bytes:
        """What its supervisor has said."""
        try:
            return self.channel.recv(100)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.channel.close()
        self.seat.close()


def row(lease: Lease) -> list[Argument]:
    fields: dict[str, Argument] = {"tq_runtime": "0.001"}
    return Ended(lease=lease, status="finished", fields=fields, entry={}).argv()


def put(client: Client, *job_ids: str, **given: t.Any) -> None:
    fields = {"data": b"[]", "tq_task": "t.x", "result_ttl": 100, **given}
    for job_id in job_ids:
        job = NewJob(id=job_id, queue="q", fields=fields)
        assert scripts.enqueue(client, job, f"nonce of {job_id}") == scripts.WRITTEN


def waiting(client: Client) -> list[str]:
    return [job_id.decode() for job_id in client.lrange("rq:queue:q", 0, -1)]


def of_all(client: Client, name: str, job_ids: t.Iterable[str]) -> list[str]:
    values = [client.hget(f"rq:job:{job_id}", name) for job_id in job_ids]
    return ["" if value is None else value.decode() for value in values]
