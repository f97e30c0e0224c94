"""What a stored job says, and a default where that cannot be read."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from .errors import BadSignature, ContentDisallowed, DecodeError, PayloadTooLarge

UNREADABLE = (BadSignature, ContentDisallowed, DecodeError, PayloadTooLarge)
"""What is wrong with a stored job, not with the app that reads it."""

T = t.TypeVar("T")
D = t.TypeVar("D")


@t.overload
def readable(read: Callable[[], T]) -> T | None: ...


@t.overload
def readable(read: Callable[[], T], default: D) -> T | D: ...


def readable(read: Callable[[], T], default: t.Any = None) -> t.Any:
    """What ``read`` returns, or the default: the rest of a job can still be read."""
    try:
        return read()
    except UNREADABLE:
        return default
