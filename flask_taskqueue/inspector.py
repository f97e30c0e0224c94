"""Reads jobs for whoever asks: results, CLI, JSON. Changes nothing."""

from __future__ import annotations

import typing as t
from base64 import b64decode
from functools import cached_property

from flask import Flask
from redis.exceptions import NoScriptError, RedisError, ResponseError

from . import keys, serializer, states
from .appstate import AppState
from .broker import scripts
from .broker.connection import ask
from .broker.exchange import Command
from .broker.trouble import reply_code
from .errors import DecodeError, TaskRevokedError
from .job import StoredJob
from .stored_error import load_error, rebuild_error

RESULT = b"tq:result"
"""Field of an eager job's result entry; Redis keeps those in a stream."""


class Snapshot:
    """A job and its last result entry, as they were at one moment.

    :param last_id: Id of the result stream's last entry, where waiting begins.
    """

    def __init__(
        self,
        state: AppState,
        stored: StoredJob,
        entry: t.Mapping[bytes, bytes],
        last_id: bytes = b"0-0",
    ) -> None:
        self._app_state = state
        self.stored = stored
        self.entry = entry
        self.last_id = last_id

    @property
    def app(self) -> Flask:
        """The app that reads it."""
        return self._app_state.app

    @cached_property
    def state(self) -> str:
        """The job's public state."""
        return self.stored.state

    @cached_property
    def ready(self) -> bool:
        """Nothing more will come."""
        status = self.stored.status
        # Of a status nobody knows nothing is to be expected either.
        return status != "started" and status not in states.WAITING

    @property
    def value(self) -> t.Any:
        """What the task returned; ``None`` where nothing is stored.

        :raises ContentDisallowed: Its content type is not accepted.
        :raises BadSignature: It should be signed, and is not as it was.
        """
        raw = self.entry.get(b"return_value")
        if raw is None or self.stored.status != "finished":
            return None
        encoded = _decoded(raw)
        if (signer := self._app_state.signer) is not None:
            signature = self.entry.get(b"tq_sig")
            signer.verify(signature, self.stored.id.encode(), b"result", encoded)
        # A plain rq job's content type shows in its arguments, which are not read
        # here; its results begin as pickles do, or not.
        content = self.stored.text("tq_content")
        if not content:
            content = "pickle" if encoded[:1] == b"\x80" else "json"
        accept = self._app_state.config.accept_content
        return serializer.loads(encoded, content, accept)

    @property
    def stored_error(self) -> bytes | None:
        """The exception of its end, or of its last attempt, as
        :mod:`.stored_error` wrote it."""
        raw = self.stored.fields.get(b"tq_error")
        if not raw or self.stored.status in ("", "finished") or self.stored.is_requeued:
            return None
        if self.state == states.REVOKED and not _is_revocation(raw):
            # RQ's Job.cancel() leaves the error of an attempt.
            return None
        return raw

    @property
    def error(self) -> Exception | None:
        """The exception of its end, or of its last attempt."""
        if raw := self.stored_error:
            return rebuild_error(raw, self._app_state.config.accept_content)
        if self.state == states.REVOKED:
            return TaskRevokedError("revoked")
        if self.stored.status == "failed":
            trace = self.traceback or ""
            last = trace.rstrip().rpartition("\n")[2]
            kind, _, text = last.partition(": ")
            return rebuild_error(
                {"type": kind, "module": "", "qualname": kind, "message": text},
                (),
            )
        return None

    @property
    def traceback(self) -> str | None:
        """Traceback of the exception of its end, or of its last attempt."""
        if raw := self.stored_error:
            try:
                return load_error(raw)["traceback"] or None
            except DecodeError:
                return None
        packed = self.entry.get(b"exc_string")
        if not packed or self.stored.status != "failed":
            return None
        text = serializer.decompress(_decoded(packed), 10_000_000)
        return text.decode(errors="replace")

    @property
    def said(self) -> t.Any:
        """What the task last gave to ``update_state(meta=…)``."""
        raw = self.stored.fields.get(b"tq_info")
        if not raw or self.stored.is_requeued:
            return {}
        if (signer := self._app_state.signer) is not None:
            name = self.stored.fields.get(b"tq_state", b"")
            parts = (self.stored.id.encode(), b"progress", name, raw)
            signer.verify(self.stored.fields.get(b"tq_sig_info"), *parts)
        return serializer.loads(raw, "json", ("json",))


def _is_revocation(raw: bytes) -> bool:
    try:
        error = load_error(raw)
    except DecodeError:
        return False
    kind = TaskRevokedError
    return (error["module"], error["type"]) == (kind.__module__, kind.__name__)


def _decoded(raw: bytes) -> bytes:
    try:
        return b64decode(raw)
    except ValueError as error:
        raise DecodeError("the job's result is not base64") from error


def snapshot(state: AppState, job_id: str) -> Snapshot:
    """Read a job and its result in one round trip.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    local = local_fields(state, job_id)
    if local is not None:
        stored = StoredJob(job_id, local)
        return Snapshot(state, stored, _eager_entry(local))
    found = snapshots(state, [job_id])[job_id]
    if isinstance(found, Exception):
        raise found
    return found


def snapshot_after(
    state: AppState, job_id: str, wait: Command, patience: float
) -> Snapshot:
    """Read a job of Redis once a command that waits there has its reply: in the same
    round trip.

    :param patience: Seconds until that reply has to begin.
    :raises redis.ResponseError: The server's refusal.
    :raises BrokerUnavailable: No reply in time, or Redis did not answer within 2 s.
    """
    with state.broker.errors():
        waited, found = ask(
            state.broker.waiter, patience, wait, scripts.reading([job_id])
        )
        for reply in (waited, found):
            if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                raise reply
    if isinstance(found, NoScriptError):
        return snapshot(state, job_id)
    read = _snapshot(state, job_id, *scripts.rows_read(found)[0])
    if isinstance(read, Exception):
        raise read
    return read


def snapshots(
    state: AppState, job_ids: t.Sequence[str]
) -> dict[str, Snapshot | DecodeError]:
    """Read jobs that did not run in their caller, by id, in one round trip.

    :return: Of one that cannot be read the reason.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    with state.broker.errors():
        found = scripts.read(state.broker.exchange, job_ids)
    return {
        job_id: _snapshot(state, job_id, *read)
        for job_id, read in zip(job_ids, found, strict=True)
    }


def _snapshot(
    state: AppState,
    job_id: str,
    fields: t.Mapping[bytes, bytes],
    last_id: bytes,
    entry: t.Mapping[bytes, bytes],
) -> Snapshot | DecodeError:
    try:
        return Snapshot(state, StoredJob(job_id, fields), entry, last_id)
    except DecodeError as error:
        return error


def whole(state: AppState, job_id: str) -> StoredJob:
    """Read all fields of a job, its arguments and past errors included.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    fields = local_fields(state, job_id)
    if fields is None:
        client: scripts.Client = state.broker.monitor
        try:
            with state.broker.errors():
                fields = client.hgetall(keys.job(job_id))
        except ResponseError as error:
            _raise_unless_no_job(error)
            fields = {}
    return StoredJob(job_id, fields)


def local_fields(state: AppState, job_id: str) -> t.Mapping[bytes, bytes] | None:
    """Fields of a job that ran in the caller; none (an empty mapping) where all do
    and this is not among the last, or where no job can have this id; ``None`` where
    Redis is to be asked."""
    found = state.eager_jobs.get(job_id)
    offline = state.eager or state.outbox is not None
    if found is None and (offline or not _can_be_key(job_id)):
        return {}
    return found


def _can_be_key(job_id: str) -> bool:
    """A lone surrogate has no bytes: no job has such an id."""
    return job_id.isascii() or not any("\ud800" <= char <= "\udfff" for char in job_id)


def _eager_entry(fields: t.Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {
        name.removeprefix(RESULT): value
        for name, value in fields.items()
        if name.startswith(RESULT)
    }


def _raise_unless_no_job(error: RedisError) -> None:
    """Return if the key holds something else: no job of anybody's."""
    if reply_code(error) != "WRONGTYPE":
        raise error
