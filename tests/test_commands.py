"""What a worker reads of what comes over its channel."""

from __future__ import annotations

import json

import pytest

from flask_taskqueue.commands import Command, loads


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"command": "shutdown"}, Command("shutdown")),
        ({"command": "stop-job", "job_id": "a"}, Command("stop-job", job_id="a")),
        ({"command": "ping", "answer_to": "b"}, Command("ping", answer_to="b")),
        ({"command": "of tomorrow", "x": 1}, Command("of tomorrow")),
    ],
)
def test_a_command_is_read(document: object, expected: Command):
    assert loads(json.dumps(document).encode()) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"[]", b"3", b"null", b"{}", b'"command"', b'{"command": 1}',
        b'{"command": "stop-job", "job_id": ["a"]}',
    ],
)  # fmt: skip
def test_what_is_no_command_is_none(data: bytes):
    assert loads(data) is None


def test_what_is_written_is_read():
    command = Command("ping", answer_to="tq:answers:1")
    assert loads(command.dumps().encode()) == command
