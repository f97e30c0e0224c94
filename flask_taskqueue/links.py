"""Jobs that follow another: ready when it is enqueued, but for their arguments."""

from __future__ import annotations

import re
import typing as t
from base64 import b64decode, b64encode
from collections.abc import Sequence

from . import serializer
from .broker.wire import Argument, NewJob
from .errors import DecodeError
from .job import signed_parts
from .option_values import TASK_ID
from .patterns import check_queue_name
from .signing import Signer

FIELDS_MOST = 100
"""No job of ours has this many fields; a script can unpack some thousands."""

_INSTANT = re.compile(r"(\+?[0-9]{1,15}(\.[0-9]{1,9})?)?")


def pack_link(job: NewJob, task: str, call: bytes, immutable: bool) -> dict[str, t.Any]:
    """A prepared job without its arguments, as JSON values."""
    fields = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in job.fields.items()
    }
    return {
        "id": job.id, "queue": job.queue, "front": job.front, "due": job.due,
        "expires": job.expires, "fields": fields, "task": task,
        "call": b64encode(call).decode(), "immutable": immutable,
    }  # fmt: skip


class Link:
    """A job to enqueue when its parent has ended.

    :param row: What :func:`pack_link` made.
    :raises DecodeError: It is something else.
    """

    __slots__ = ("call", "content", "immutable", "job", "task")

    def __init__(self, row: object) -> None:
        try:
            values = t.cast("dict[str, t.Any]", row)
            self.job: NewJob = NewJob(
                id=_matching(TASK_ID, values["id"]),
                queue=check_queue_name(values["queue"]),
                front=bool(values["front"]),
                due=_matching(_INSTANT, values["due"]),
                expires=_matching(_INSTANT, values["expires"]),
                fields=_checked_fields(values["fields"]),
            )
            self.task: str = str(values["task"])
            self.call: bytes = b64decode(values["call"])
            self.content: str = str(self.job.fields["tq_content"])
            self.immutable: bool = bool(values["immutable"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DecodeError("the job's links cannot be read") from error

    def with_args(
        self, before: Sequence[t.Any], accept: t.Collection[str], signer: Signer | None
    ) -> NewJob:
        """The job with arguments put before its own, unless it is immutable."""
        limit = len(self.call)
        _, _, args, kwargs = serializer.load_call(
            self.call, self.content, accept, limit
        )
        args = args if self.immutable else [*before, *args]
        # Its size was checked as a result: a large one is for the child to refuse.
        data = serializer.dump_call(self.task, args, kwargs, self.content, 2**62)
        fields = {**self.job.fields, "data": serializer.compress(data)}
        if signer is not None:
            fields["tq_sig"] = signer.sign(*signed_parts(self.job.id, data, fields))
        return NewJob(
            id=self.job.id, queue=self.job.queue, front=self.job.front,
            due=self.job.due, expires=self.job.expires, fields=fields,
        )  # fmt: skip


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    raise ValueError


def _checked_fields(fields: dict[str, t.Any]) -> dict[str, Argument]:
    """The fields, if Redis takes them."""
    for name, value in fields.items():
        if type(value) not in (str, int, float):
            raise ValueError
        f"{name}{value}".encode()  # a lone surrogate has no bytes
    if len(fields) > FIELDS_MOST:
        raise ValueError
    return dict(fields)
