"""What anybody who can write to Redis might put there."""

from __future__ import annotations

import functools
import json
import pickle
import random
import typing as t
import zlib

FIELDS = (
    "status", "data", "origin", "description", "timeout", "result_ttl", "failure_ttl",
    "ttl", "meta", "created_at", "enqueued_at", "started_at", "ended_at",
    "last_heartbeat", "worker_name", "retries_left", "retry_intervals",
    "number_of_retries", "enqueue_at_front", "enqueue_at_front_on_retry",
    "repeats_left", "dependency_ids", "allow_dependency_failures", "group_id",
    "success_callback_name", "success_callback_timeout", "failure_callback_name",
    "failure_callback_timeout", "webhooks", "result", "exc_info", "tq_task",
    "tq_content", "tq_options", "tq_headers", "tq_carried", "tq_links", "tq_errlinks",
    "tq_cause", "tq_parent", "tq_root", "tq_retries", "tq_recoveries",
    "tq_recovered_at", "tq_max_recoveries", "tq_on_lost", "tq_eta", "tq_expires",
    "tq_execution", "tq_state", "tq_info", "tq_error", "tq_error_0", "tq_runtime",
    "tq_children", "tq_nonce", "tq_sig", "tq_sig_info", "tq_ended", "tq_ignored",
)  # fmt: skip
"""Every field of a job's hash that a worker, a result or a page reads."""


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[t.Any, ...]:
        return open, (self.path, "w")


@functools.cache
def bomb() -> bytes:
    """100 KB that become 100 MB."""
    return zlib.compress(b"[" + b"0," * 50_000_000 + b"0]", 9)


def values(trap: str = "") -> dict[str, bytes]:
    """Bytes of every kind, by name.

    :param trap: Path of a file that exists if one of them was unpickled.
    """
    link = {
        "id": "x", "queue": "default", "front": False, "due": "", "expires": "",
        "fields": {"tq_content": "json"}, "task": "rqjobs.add", "call": "W10=",
        "immutable": True,
    }  # fmt: skip
    known = {
        "empty": b"",
        "zero-bytes": b"\0" * 16,
        "no-utf-8": b"\xff\xfe\xfd",
        "line-breaks": b"a\r\nb\n",
        "random": random.Random(20260101).randbytes(1000),
        "negative": b"-1",
        "minus-inf": b"-inf",
        "huge": b"1e308",
        "beyond-float": b"1e400",
        "many-digits": b"9" * 4000,
        "too-many-digits": b"9" * 10_000,
        "nan": b"nan",
        "json-nan": b"NaN",
        "infinity": b"Infinity",
        "null": b"null",
        "true": b"true",
        "text": b'"text"',
        "list": b"[1, 2]",
        "list-of-lists": b"[[], {}, null]",
        "dict": b'{"a": 1}',
        "wrong-inside": b'{"retry": [], "headers": {"a": [1]}, "time_limit": "x"}',
        "huge-inside": b'{"time_limit": 1e308, "retry": {"max_retries": -1}}',
        "endless-inside": b'{"soft_time_limit": Infinity, "time_limit": NaN}',
        "digits-inside": b'{"time_limit": 1' + b"0" * 400 + b"}",
        "surrogate": b'["\\ud800", null, ["\\ud800"], {"\\ud800": "\\ud800"}]',
        "surrogate-name": b'{"\\ud800": "\\ud800"}',
        "odd-name": b'["\\u0000../a:b\\n", null, [], {}]',
        "long-name": json.dumps(["x" * 100_000, None, [], {}]).encode(),
        "no-arguments": b'["rqjobs.add", null, {}, []]',
        "instance": b'["add", {"a": 1}, [1], {}]',
        "deep-list": b"[" * 100_000,
        "deep-dict": b'{"a":' * 100_000,
        "closed-deep-list": b"[" * 100_000 + b"]" * 100_000,
        "bomb": bomb(),
        "cut-zlib": zlib.compress(b"x" * 10_000)[:20],
        "pickle": pickle.dumps(Trap(trap)) if trap else b"\x80\x04.",
        "pickled-call": pickle.dumps(("rqjobs.add", None, (Trap(trap),), {})),
        "wrong-pickle": b"\x80\x05\xff\xff",
        "wrong-stamp": b"2026-99-99T00:00:00.000000Z",
        "link-without": b"[{}]",
        "link-wrong-types": json.dumps([{**link, "fields": [1]}]).encode(),
        "link-odd-fields": json.dumps(
            [{**link, "fields": {"tq_content": "json", "x": None}}]
        ).encode(),
        "link-odd-due": json.dumps([{**link, "due": "+soon"}]).encode(),
        "link-odd-id": json.dumps([{**link, "id": "../x"}]).encode(),
        "link-many-fields": json.dumps(
            [{**link, "fields": {f"tq_{n}": "x" for n in range(9000)}}]
        ).encode(),
        "link-odd-call": json.dumps([{**link, "call": "!"}]).encode(),
        "cause-odd": b'{"id": [], "error": []}',
        "error-odd": b'{"type": 1, "args": {"a": []}, "module": "os", "qualname": "."}',
    }  # fmt: skip
    if not trap:
        del known["pickled-call"]
    return known
