"""The stored job: names of its fields, their only writer and reader."""

from __future__ import annotations

import json
import math
import typing as t
from collections.abc import Mapping
from datetime import UTC, datetime

from rq.job import Job

from . import serializer, states
from .broker.wire import Argument, NewJob
from .errors import DecodeError
from .options import TaskOptions
from .retry import RetryPolicy, rq_interval
from .signing import Signer
from .terms import (
    NO_LIMITS,
    Limits,
    Options,
    checked_limits,
    limits_of,
    options_of,
    policy_of,
)

COUNT_MOST = 2**31
"""No job has this many retries, recoveries or the like."""

RQ_TIMEOUT = 180.0
"""Seconds RQ gives a job that names no time-out (rq 2.12, Queue.DEFAULT_TIMEOUT)."""

SIGNED = (
    "tq_task", "tq_content", "tq_options", "tq_headers", "tq_carried",
    "tq_links", "tq_errlinks", "tq_cause", "tq_parent", "tq_root",
)  # fmt: skip
"""Fields besides the arguments that decide how a job runs: signed together."""

Fields = Mapping[bytes, bytes]


def signed_parts(
    job_id: str, data: bytes, fields: Mapping[str, Argument]
) -> list[bytes]:
    """What the signature of a job covers, in order."""
    rest = [_as_bytes(fields.get(name, b"")) for name in SIGNED]
    return [job_id.encode(), data, *rest]


def _as_bytes(value: Argument) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def frame(
    task: str, options: TaskOptions, stored_options: bytes
) -> dict[str, Argument]:
    """The fields that are alike in all jobs of a task with these options.

    :param options: Completed ones.
    :param stored_options: What :meth:`.TaskOptions.stored` makes of them.
    """
    limit = options.time_limit
    fields: dict[str, Argument] = {
        # RQ shows this text; without arguments, which may be secrets.
        "description": task,
        # RQ reads whole seconds; -1 is no limit.
        "timeout": math.ceil(limit) if isinstance(limit, (int, float)) else -1,
        "result_ttl": t.cast(int, options.result_ttl),
        "failure_ttl": t.cast(int, options.failure_ttl),
        "tq_task": task,
        "tq_content": t.cast(str, options.serializer),
        "tq_options": stored_options,
    }
    if options.on_worker_lost == "fail":
        fields["tq_on_lost"] = "fail"
    if options.max_recoveries != 3:
        fields["tq_max_recoveries"] = options.max_recoveries
    return fields


def compose(
    job_id: str,
    frame: Mapping[str, Argument],
    data: bytes,
    more: Mapping[str, Argument],
    signer: Signer | None,
) -> dict[str, Argument]:
    """The fields of a new job's hash, status and times excepted.

    They begin with :data:`.wire.COLUMNS`.

    :param frame: As :func:`frame` made it.
    :param data: Its call as :func:`.serializer.dump_call` wrote it.
    :param more: Fields that only some jobs have.
    """
    fields = {"data": serializer.compress(data), **frame, **more}
    if signer is not None:
        fields["tq_sig"] = signer.sign(*signed_parts(job_id, data, fields))
    return fields


class StoredJob:
    """A job as Redis has it. Every field is read when asked for, and nothing in it
    is trusted: :class:`.errors.DecodeError` names the field that cannot be read.

    :param fields: The hash as it came.
    :param limits: Of a worker, for jobs whose own options name none.
    """

    __slots__ = ("_given", "_limits", "_parsed", "_task", "fields", "id", "queue")

    def __init__(
        self,
        job_id: str,
        fields: Fields,
        queue: str = "",
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.id: str = job_id
        self.fields: Fields = fields
        self._given = limits
        self._limits: Limits | None = None
        self._parsed: dict[str, t.Any] = {}
        self._task: str | None = None
        self.queue: str = queue or self.text("origin")

    @classmethod
    def of_new(cls, new: NewJob) -> StoredJob:
        """A job as it is enqueued: without status and times, which a script writes."""
        fields = {name.encode(): _as_bytes(value) for name, value in new.fields.items()}
        return cls(new.id, fields, new.queue)

    def text(self, name: str, default: str = "") -> str:
        """A field as text."""
        raw = self.fields.get(name.encode())
        if raw is None:
            return default
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"the job's field {name!r} is not UTF-8 text") from error

    def number(self, name: str, default: float | None = None) -> float | None:
        """A field as a finite number."""
        raw = self.text(name)
        if not raw:
            return default
        try:
            number = float(raw)
        except ValueError as error:
            raise DecodeError(f"the job's field {name!r} is not a number") from error
        if not math.isfinite(number):
            raise DecodeError(f"the job's field {name!r} is not a finite number")
        return number

    def count(self, name: str) -> int:
        """A field as an integer >= 0; 0 where there is none."""
        number = self.number(name, 0.0) or 0.0
        if number > COUNT_MOST:
            raise DecodeError(f"the job's field {name!r} is too large for a count")
        return max(int(number), 0)

    def instant(self, name: str) -> datetime | None:
        """A field of epoch seconds, or of RQ's time stamp, as an aware datetime."""
        raw = self.text(name)
        if not raw:
            return None
        try:
            if raw[-1] == "Z":
                return datetime.fromisoformat(raw)
            return datetime.fromtimestamp(float(raw), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise DecodeError(f"the job's field {name!r} is not an instant") from error

    def mapping(self, name: str) -> dict[str, t.Any]:
        """A JSON field as a dict; empty where there is none."""
        value = self._json(name, {})
        if not isinstance(value, dict):
            raise DecodeError(f"the job's field {name!r} is not a JSON object")
        return value

    def rows(self, name: str) -> list[t.Any]:
        """A JSON field as a list; empty where there is none."""
        value = self._json(name, [])
        if not isinstance(value, list):
            raise DecodeError(f"the job's field {name!r} is not a JSON list")
        return value

    def _json(self, name: str, default: object) -> object:
        raw = self.fields.get(name.encode())
        if not raw:
            return default
        if name not in self._parsed:
            try:
                self._parsed[name] = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise DecodeError(f"the job's field {name!r} is not JSON") from error
        return self._parsed[name]

    @property
    def exists(self) -> bool:
        """There is such a job, and nobody forgot it. What rq-scheduler shows for an
        entry of beat is none."""
        fields = self.fields
        is_shown = b"tq_forgotten" not in fields and b"tq_entry" not in fields
        return is_shown and bool(fields.get(b"status"))

    @property
    def status(self) -> str:
        """RQ's status; ``""`` where there is no such job."""
        return self.text("status") if self.exists else ""

    @property
    def state(self) -> str:
        """The state users see."""
        shows = self.status == "started" or b"tq_ignored" in self.fields
        said = self.text("tq_state") if shows else ""
        # A job that ended shows how, whatever else of it can be read.
        retries = self.retries if self.status in states.WAITING else 0
        return states.public_state(self.status, retries=retries, said=said)

    @property
    def is_requeued(self) -> bool:
        """It had ended, and waits for a new life: what is left of the old one goes
        when it starts (``claiming.lua``)."""
        if self.status not in states.WAITING:
            return False
        # RQ's requeue empties ended_at.
        return b"tq_ended" in self.fields or bool(self.text("ended_at"))

    @property
    def task(self) -> str:
        """Name of its task; ``""`` for a job of a plain ``rq`` producer."""
        if self._task is None:
            self._task = self.text("tq_task")
        return self._task

    @property
    def name(self) -> str:
        """Name of its task, or of the function of a plain ``rq`` job.

        Never its arguments, which ``rq`` writes behind the name in its description.
        """
        return self.task or self.text("description").partition("(")[0]

    @property
    def retries(self) -> int:
        """Retries done; a requeued job begins anew."""
        if b"tq_retries" not in self.fields or self.is_requeued:
            return 0
        return self.count("tq_retries")

    @property
    def recoveries(self) -> int:
        """Times it was given to another worker because one was lost; a requeued job
        begins anew."""
        if b"tq_recoveries" not in self.fields or self.is_requeued:
            return 0
        return self.count("tq_recoveries")

    @property
    def options(self) -> Options:
        """What its producer decided about how it runs; plain ``rq`` has none.

        Not to be changed: jobs of one task share it.
        """
        return options_of(self.fields.get(b"tq_options", b"")) if self.task else {}

    @property
    def policy(self) -> RetryPolicy:
        """Its retry policy; from RQ's fields where it is a plain ``rq`` job."""
        try:
            if self.task:
                return policy_of(self.fields.get(b"tq_options", b""))
            left = self.count("retries_left")
            interval = rq_interval(self.rows("retry_intervals"), left) if left else 0
            return RetryPolicy(max_retries=self.retries + left, delay=interval)
        except DecodeError:
            raise
        except ValueError as error:
            raise DecodeError(f"the job's retry policy: {error}") from error

    @property
    def limits(self) -> Limits:
        """How long it may run.

        Each limit is that of the task or the call, else the worker's, else the app's. A
        plain ``rq`` job has RQ's time-out as its soft limit, and a hard one 60 s later,
        as RQ's worker does.
        """
        if self._limits is None:
            self._limits = self._read_limits()
        return self._limits

    def _read_limits(self) -> Limits:
        if self.task:
            return limits_of(self.fields.get(b"tq_options", b""), self._given)
        timeout = self.number("timeout", RQ_TIMEOUT) or RQ_TIMEOUT
        return NO_LIMITS if timeout < 0 else checked_limits(timeout + 60, timeout)

    def content_type(self, data: bytes) -> str:
        """Content type of its arguments, told from the first byte without a field."""
        return self.text("tq_content") or serializer.content_type_of(data)

    def data(self, max_bytes: int) -> bytes:
        """Its call, decompressed.

        :raises PayloadTooLarge: It is larger than ``max_bytes``.
        """
        return serializer.decompress(self.fields.get(b"data", b""), max_bytes)

    def verify(self, signer: Signer, data: bytes) -> None:
        """Check the signature of what decides how it runs.

        :raises BadSignature: Unsigned, or altered.
        """
        fields = {name: self.fields.get(name.encode(), b"") for name in SIGNED}
        signer.verify(self.fields.get(b"tq_sig"), *signed_parts(self.id, data, fields))

    @property
    def headers(self) -> dict[str, t.Any]:
        """What ``apply_async(headers=…)`` was given."""
        raw = self.fields.get(b"tq_headers")
        headers = serializer.loads(raw, "json", ("json",)) if raw else {}
        if not isinstance(headers, dict):
            raise DecodeError("the job's headers are not a JSON object")
        return headers

    @property
    def carried(self) -> dict[str, str]:
        """Request headers that travelled, by name."""
        headers = self.mapping("tq_carried").get("headers", {})
        if not isinstance(headers, dict):
            raise DecodeError("the job's carried headers are not a JSON object")
        if not all(isinstance(value, str) for value in headers.values()):
            raise DecodeError("the job's carried headers are not texts by name")
        return headers

    @property
    def children(self) -> list[str]:
        """Ids of the jobs it enqueued."""
        return [x for x in self.rows("tq_children") if isinstance(x, str)]


class TaskJob(Job):
    """One of our jobs as an :class:`rq.job.Job`, for code written for RQ.

    :attr:`stored` has what RQ's class does not know. Fetch one with
    ``TaskJob.fetch(id, connection=…, serializer=JSONSerializer)``.
    """

    stored: StoredJob

    def restore(self, raw_data: t.Any) -> None:
        """Take over the fields of a hash."""
        super().restore(raw_data)
        self.stored = StoredJob(self.id, raw_data)
