"""Readers of configuration values: Python objects, or text that says the same."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import typing as t
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import timedelta

_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_CONTENT_TYPES = {
    "json": "json",
    "application/json": "json",
    "msgpack": "msgpack",
    "application/msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "pickle": "pickle",
    "application/x-python-serialize": "pickle",
}
_NEVER_CARRIED = frozenset({"cookie", "authorization", "proxy-authorization"})
_SHOWN = 100  # characters of a value in a message


def masked(text: str) -> str:
    """The text without the user and password of a URL in it.

    Everything up to the last ``@`` goes: passwords are often not percent-encoded.
    """
    start = r"(?<=://)" if "://" in text else r"\A"
    text = re.sub(start + r".*@", "***@", text, flags=re.DOTALL)
    return re.sub(r"(?i)(password=)[^&\s'\"]*", r"\1***", text)


def shown(value: object) -> str:
    """The value for an error message: masked, then cut to 100 characters."""
    if isinstance(value, str):
        text = repr(masked(value))
    else:
        text = masked(repr(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def shown_by_type(value: object) -> str:
    """What kind of value it is: for one that may hold what belongs in no message."""
    return f"a value of type {type(value).__name__}"


class Reader(t.NamedTuple):
    """How one kind of value is read.

    :param expected: Completes "expected 'KEY' to be …".
    :param read: Gives the value, or raises ``ValueError``; a text in it is added
        to the message, so it must not repeat what may be secret.
    :param shown: Completes "…, got …" with a wrong value.
    """

    expected: str
    read: Callable[[t.Any], t.Any]
    shown: Callable[[object], str] = shown


def decoded(value: t.Any) -> t.Any:
    """The value, or what it says if it is JSON text of a list or dict.

    :raises ValueError: It begins like such text and is none.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return json.loads(value)
    return value


def listed(value: t.Any) -> t.Any:
    """The value, or the list that its text, ``a,b`` or JSON, says."""
    value = decoded(value)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def flag(value: t.Any) -> bool:
    """True or False, 1 or 0, or one of their words in any case.

    :raises ValueError: It is none of them.
    """
    if isinstance(value, bool):
        return value
    if type(value) is int and value in (0, 1):  # FLASK_TASKQUEUE_EAGER=1
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ValueError


def _number(value: t.Any) -> int | float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                # Why: the built-in message repeats the text, which may be a secret.
                raise ValueError from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    if not math.isfinite(value):
        raise ValueError
    return value


def integer(minimum: int) -> Reader:
    """A count. Neither a bool nor a float nor a duration is one."""

    def read(value: t.Any) -> int:
        if isinstance(value, float | timedelta):
            raise ValueError
        number = _number(value)
        if number < minimum or not isinstance(number, int):
            raise ValueError
        return number

    return Reader(f"an integer >= {minimum}", read)


def whole_seconds() -> Reader:
    """A time to keep something: 0 or more seconds, never for ever."""

    def read(value: t.Any) -> int:
        number = _number(value)
        if number < 0 or number != int(number):
            raise ValueError
        return int(number)

    return Reader("whole seconds >= 0 or a timedelta", read)


def seconds(*, zero: bool) -> Reader:
    """A duration.

    :param zero: Whether it may be 0.
    """

    def read(value: t.Any) -> float:
        number = float(_number(value))
        if number < 0 or (number == 0 and not zero):
            raise ValueError
        return number

    return Reader(f"seconds {'>=' if zero else '>'} 0 or a timedelta", read)


def optional(reader: Reader) -> Reader:
    """``None`` (as text: ``none`` or ``null``), or what the reader reads."""

    def read(value: t.Any) -> t.Any:
        if value is None:
            return None
        if isinstance(value, str) and value.strip().lower() in ("none", "null"):
            return None
        return reader.read(value)

    return Reader(f"{reader.expected} or None", read)


def texts(expected: str, check: Callable[[str], t.Any] | None = None) -> Reader:
    """Texts, in order.

    :param check: Called with each; what it gives is taken in its place.
    """

    def read(value: t.Any) -> tuple[t.Any, ...]:
        value = listed(value)
        if not isinstance(value, list | tuple | set | frozenset):
            raise ValueError
        if not all(isinstance(item, str) and item.strip() for item in value):
            raise ValueError
        return tuple(value if check is None else map(check, value))

    return Reader(expected, read)


def named_values(expected: str) -> Reader:
    """A dict; a copy, so that later changes do not reach it. Neither its values nor
    its names are checked here, and none is in a message."""

    def read(value: t.Any) -> dict[str, t.Any]:
        value = decoded(value)
        if not isinstance(value, Mapping):
            raise ValueError
        return dict(value)

    return Reader(expected, read, shown_by_type)


def url(value: t.Any) -> str:
    """A text that begins with a scheme. Which there are, :mod:`.broker.url` knows.

    :raises ValueError: It is not.
    """
    if not isinstance(value, str) or not re.match(r"[a-z][a-z+]*://", value):
        raise ValueError
    return value


def content(value: t.Any) -> str:
    """``json``, ``msgpack`` or ``pickle``, of that name or of its media type.

    :raises ValueError: It is none of them, or msgpack is not installed: a web
        process would find out at its first call otherwise.
    """
    name = _CONTENT_TYPES.get(value.strip().lower()) if isinstance(value, str) else None
    if name is None:
        raise ValueError
    if name == "msgpack" and importlib.util.find_spec("msgpack") is None:
        raise ValueError('msgpack needs pip install "Flask-TaskQueue[msgpack]"')
    return name


def header(value: str) -> str:
    """The name of a header that may travel.

    :raises ValueError: It is no name, or that of a header with credentials.
    """
    name = value.strip()
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{shown(value)} is no header name")
    # Why the underscore: WSGI reads both spellings from one variable.
    if name.lower().replace("_", "-") in _NEVER_CARRIED:
        raise ValueError(f"{name} never travels with a job")
    return name


def path(value: t.Any) -> str:
    """A URL path with a slash at its beginning and none at its end.

    :raises ValueError: It is not, or it is ``/``, which would take all the app's.
    """
    if not isinstance(value, str) or not re.fullmatch(r"(/[^/\s?#<>]+)+", value):
        raise ValueError
    return value


def timezone(value: t.Any) -> str:
    """The name of a time zone this machine knows.

    :raises ValueError: It is not.
    """
    if not isinstance(value, str):
        raise ValueError
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError from None
    return value
