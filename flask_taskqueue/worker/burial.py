"""What becomes of the jobs a dead child held. Decided by how it died."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Callable, Sequence

from redis import Redis
from redis.exceptions import ResponseError

from .. import errors, keys
from ..appstate import AppState
from ..broker import scripts
from ..broker.trouble import is_unavailable
from ..broker.wire import Lease, number_of
from ..job import StoredJob
from .board import Seen
from .endings import Halted
from .joblines import log, log_lost
from .outcome import end_of_halted, store_rows
from .pools import Seat

logger: logging.Logger = logging.getLogger(__name__)


class Burials:
    """What is still to be done about children that are dead.

    Everything here bears to be done twice, and is until Redis answered.

    :param client: The supervisor's own.
    """

    def __init__(self, state: AppState, client: Redis, queues: Sequence[str]) -> None:
        self._state = state
        self._client = client
        self._queues = queues
        self._due: list[tuple[Sequence[Seat], Callable[[], None]]] = []

    @property
    def seats(self) -> list[Seat]:
        """Those that are dead and not buried."""
        return [seat for seats, _ in self._due for seat in seats]

    @property
    def holding(self) -> bool:
        """One of them ran something: while Redis is away it cannot be given back."""
        seen = [seat.board.read() for seat in self.seats]
        return any(one.leases or one.sent for one in seen)

    def work_off(self) -> None:
        """Do what is due."""
        while self._due:
            try:
                self._bury(*self._due[0])
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                logger.exception("What a dead child held cannot be taken back")
            del self._due[0]

    def _bury(self, seats: Sequence[Seat], duty: Callable[[], None]) -> None:
        for seat in seats:
            self._silence(seat)
            store_rows(self._client, seat.board.ends())
        # First what they had not begun: what they ran goes in front of that.
        if rest := [lease for seat in seats for lease in self._not_begun(seat)]:
            scripts.release(self._client, rest, started=False)
        duty()
        for seat in seats:
            self._abandon(seat, "", "")

    def _not_begun(self, seat: Seat) -> list[Lease]:
        """In order; last what it had claimed in a call whose reply it never read."""
        seen = seat.board.read()
        held = scripts.held(self._client, seat.prefix, self._queues)
        unread = [lease for lease in held if number_of(lease) > seen.calls]
        return [*seen.ahead, *sorted(unread, key=number_of)]

    def recover(self, seats: Sequence[Seat], death: str) -> None:
        """By itself: what it ran is charged a recovery and runs again."""

        def charge() -> None:
            for seat in seats:
                lease = seat.board.read().lease
                self._abandon(seat, lease.execution if lease else "", death)

        self._due.append((seats, charge))

    def end_overdue(self, seat: Seat) -> None:
        """Killed at its job's hard limit: the job ends as a failure."""
        seen = seat.board.read()
        seconds = seen.deadline - seen.started
        error = errors.TimeLimitExceeded(f"the time limit of {seconds:g} s is over")
        _log_stop(seen.lease, error)
        self._due.append(([seat], lambda: self._end(seen, error, seconds, "failed")))

    def end_terminated(self, seat: Seat) -> None:
        """Killed because its job was revoked with ``terminate``."""
        seen = seat.board.read()
        seconds = time.monotonic() - seen.started if seen.started else 0.0
        error = errors.TaskRevokedError("terminated")
        _log_stop(seen.lease, error)
        self._due.append(([seat], lambda: self._end(seen, error, seconds, "stopped")))

    def end_killed(self, seat: Seat) -> None:
        """Killed because its worker was told to kill what runs: the job failed."""
        seen = seat.board.read()
        seconds = time.monotonic() - seen.started
        error = errors.WorkerLostError("its worker was told to kill what runs")
        _log_stop(seen.lease, error)
        self._due.append(([seat], lambda: self._end(seen, error, seconds, "failed")))

    def give_back(self, seats: Sequence[Seat]) -> int:
        """Killed for no fault of what they ran: the worker stops, or another slot of
        the same child had to. In one call, so that the jobs keep their order.

        :return: How many jobs that are.
        """
        seen = [seat.board.read() for seat in seats]
        seen.sort(key=lambda one: one.started)
        leases = [one.lease for one in seen if one.lease]
        leases += [lease for one in seen for lease in one.ahead]
        for lease in leases:
            extra = {"job_id": lease.id, "queue": lease.queue, "task": ""}
            logger.warning("Job %s is given back", lease.id, extra=extra)
        self._due.append((seats, lambda: self._release(leases)))
        return len(leases)

    def release_rest(self, seats: Sequence[Seat]) -> None:
        """Ended as they should, or killed for a lease that was lost: they run
        nothing."""
        self._due.append((seats, lambda: None))

    def _silence(self, seat: Seat) -> None:
        """Close its connection, so that nothing it sent runs after this."""
        untyped: scripts.Client = self._client
        if seat.board.client_id:
            untyped.client_kill_filter(_id=seat.board.client_id)

    def _abandon(self, seat: Seat, ran: str, death: str) -> None:
        for job in scripts.abandon(
            self._client, seat.prefix, ran=ran, reason=death, queues=self._queues
        ):
            if job.what == "failed":
                log_lost(self._client, job.id, job.queue)
                continue
            logger.warning(
                "Job %s of queue %s was with a child that is dead: %s",
                job.id, job.queue, job.what,
                extra={"job_id": job.id, "queue": job.queue, "task": ""},
            )  # fmt: skip

    def _release(self, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        codes = scripts.release(self._client, leases, started=True)
        for lease, code in zip(leases, codes, strict=True):
            if code == scripts.ENDED_INSTEAD:
                log_lost(self._client, lease.id, lease.queue)

    def _end(
        self, seen: Seen, error: BaseException, seconds: float, status: str
    ) -> None:
        if seen.lease is not None:
            _end_job(self._state, self._client, seen.lease, error, seconds, status)


def _log_stop(lease: Lease | None, error: BaseException) -> None:
    """Its end is logged when it is stored, which may be later."""
    if lease is None:
        logger.error("A child was stopped, with hooks of a killed job: %s", error)
    else:
        extra = {"job_id": lease.id, "queue": lease.queue, "task": ""}
        logger.info("Job %s was stopped: %s", lease.id, error, extra=extra)


def _end_job(
    state: AppState,
    client: Redis,
    lease: Lease,
    error: BaseException,
    seconds: float,
    status: str,
) -> None:
    untyped: scripts.Client = client
    fields: dict[bytes, bytes] = untyped.hgetall(keys.job(lease.id))
    stored = StoredJob(lease.id, fields, lease.queue)
    halted = Halted(began=0.0, seconds=seconds, exception=error, status=status)
    ended = end_of_halted(state, stored, lease, halted)
    if scripts.bury(client, ended) == scripts.STORED:
        log(state.config, stored, halted)


def return_unknown(
    client: Redis, unknown: t.Iterable[Lease], seats: Sequence[Seat]
) -> None:
    """Give back leases no slot of ours holds, and none will come to hold.

    One that waits for the answer to its claim may hold it in a moment: such a
    slot has not counted that call yet. Where a slot has sent the end of a job that
    still has its lease, that may be lost, and it hears so only after the job it runs.

    :param seats: Those that live, and those not buried yet.
    """
    boards = {seat.label: seat.board for seat in seats}
    lost = []
    for lease in unknown:
        head, _, call = lease.execution.rpartition(".")
        board = boards.get(head.rpartition(".")[2])
        if board is None:
            lost.append(lease)
            continue
        seen = board.read()
        if lease in seen.sent:
            store_rows(client, board.ends())
        elif call.isdecimal() and seen.calls >= int(call) and lease not in seen.leases:
            lost.append(lease)
    if lost:
        scripts.release(client, lost, started=False)
