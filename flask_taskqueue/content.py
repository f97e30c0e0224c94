"""Writes and reads values in each content type: JSON, msgpack, pickle.

JSON carries more types than its own in the form of kombu 5 (its
``kombu/utils/json.py``): ``{"__type__": name, "__value__": value}``. What kombu
writes is read here, and the reverse, apart from :data:`_PLAIN_DICT`.
"""

from __future__ import annotations

import base64
import functools
import json
import pickle
import typing as t
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

from .errors import ConfigError

JSON, MSGPACK, PICKLE = "json", "msgpack", "pickle"

_TYPE, _VALUE = "__type__", "__value__"
_QUOTED_TYPE = f'"{_TYPE}"'

_PLAIN_DICT = "dict"
"""Type of a user's dict that looks like the form: its value is a list of pairs."""

_EXTENSION = 1
"""msgpack's extension code of a ``[name, value]`` pair in JSON."""

_BIG_INT = "int"
"""Name, in msgpack only, of an integer beyond 64 bits: hexadecimal text."""

_KINDS: tuple[tuple[type, str, t.Callable[[t.Any], t.Any]], ...] = (
    # datetime first: every datetime is a date too
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (Decimal, "decimal", str),
    (UUID, "uuid", lambda value: {"hex": value.hex, "version": value.version}),
)


def _pair(value: t.Any) -> tuple[str, t.Any]:
    """Name and JSON value of one of the further types, or a TypeError."""
    if isinstance(value, bytes):
        try:
            return "bytes", value.decode()
        except UnicodeDecodeError:
            return "base64", base64.b64encode(value).decode()
    if isinstance(value, time) and value.tzinfo and value.utcoffset() is None:
        # Its offset depends on a date, so isoformat() would drop the zone unseen.
        raise TypeError("a time whose zone has no fixed offset")
    for kind, name, write in _KINDS:
        if isinstance(value, kind):
            return name, write(value)
    raise TypeError(f"{type(value).__qualname__} has no form")


def _decimal(value: str) -> Decimal:
    if not isinstance(value, str):  # Decimal() would take a float or a list too.
        raise TypeError("decimal is not text")
    return Decimal(value)


def _plain_dict(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    (first, one), (second, other) = pairs
    if {first, second} != {_TYPE, _VALUE}:
        raise ValueError("not the pairs of a dict that looks like the form")
    return {first: one, second: other}


_READERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": _decimal,
    # The version is part of the hex digits. UUID(version=7) fails before 3.14.
    "uuid": lambda value: UUID(hex=value["hex"]),
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value, validate=True),
    _PLAIN_DICT: _plain_dict,
}


def _read(found: dict[str, t.Any]) -> t.Any:
    """Replace a dict in the form by what it stands for."""
    if found.keys() != {_TYPE, _VALUE}:
        return found
    return _READERS[found[_TYPE]](found[_VALUE])


def _default(value: object) -> dict[str, t.Any]:
    name, written = _pair(value)
    return {_TYPE: name, _VALUE: written}


_encoder = json.JSONEncoder(default=_default, separators=(",", ":"), ensure_ascii=False)
_decoder = json.JSONDecoder(object_hook=_read)
_plain_decoder = json.JSONDecoder()


def _escaped(value: t.Any) -> t.Any:
    """A copy in which users' own dicts no longer look like the form."""
    if isinstance(value, dict):
        items = {key: _escaped(item) for key, item in value.items()}
        if items.keys() == {_TYPE, _VALUE}:
            return {_TYPE: _PLAIN_DICT, _VALUE: list(items.items())}
        return items
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def _to_json(value: object) -> bytes:
    if type(value) is int:
        return b"%d" % value  # To make json's encoder takes longer than this.
    text = _encoder.encode(value)
    if _QUOTED_TYPE in text:
        text = _encoder.encode(_escaped(value))
    # UTF-8 has no lone surrogates; "backslashreplace" writes JSON's own escape.
    return text.encode("utf-8", "backslashreplace")


def _from_json(data: bytes) -> t.Any:
    text = data.decode()
    if _QUOTED_TYPE in text:
        return _decoder.decode(text)
    try:
        value, end = _plain_decoder.raw_decode(text)
    except ValueError:
        end = -1
    # What others wrote may have blanks around it, or faults: to see to that for each
    # text would take as long as to read it.
    return value if end == len(text) else json.loads(text)


def _msgpack() -> t.Any:
    try:
        import msgpack  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(
            "content type 'msgpack' needs a package that is not installed:"
            " pip install 'Flask-TaskQueue[msgpack]'"
        ) from error
    return msgpack


def _to_msgpack(value: object) -> bytes:
    msgpack = _msgpack()

    def extension(value: object) -> t.Any:
        pair = (_BIG_INT, hex(value)) if isinstance(value, int) else _pair(value)
        return msgpack.ExtType(_EXTENSION, _encoder.encode(pair).encode())

    data: bytes = msgpack.packb(
        value, default=extension, unicode_errors="surrogatepass"
    )
    # Why: it writes keys and depths that it refuses to read.
    _from_msgpack(data)
    return data


def _from_extension(code: int, data: bytes) -> t.Any:
    if code != _EXTENSION:
        raise ValueError(f"unknown extension {code}")
    name, value = json.loads(data)
    return int(value, 16) if name == _BIG_INT else _READERS[name](value)


def _from_msgpack(data: bytes) -> t.Any:
    msgpack = _msgpack()
    # Why first: a list is made as long as its header claims, so that nested headers
    # without the items would take thousands of times the size of the data. skip()
    # makes no objects, and fails where items are missing.
    walker = msgpack.Unpacker(max_buffer_size=len(data))
    walker.feed(data)
    walker.skip()
    return msgpack.unpackb(
        data,
        ext_hook=_from_extension,
        timestamp=3,  # other writers' timestamps become aware datetimes
        unicode_errors="surrogatepass",
        strict_map_key=True,  # int keys can be chosen to collide, text cannot
    )


ENCODERS: dict[str, t.Callable[[t.Any], bytes]] = {
    JSON: _to_json,
    MSGPACK: _to_msgpack,
    PICKLE: functools.partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL),
}
"""Each raises any exception for a value it cannot write."""

DECODERS: dict[str, t.Callable[[bytes], t.Any]] = {
    JSON: _from_json,
    MSGPACK: _from_msgpack,
    PICKLE: pickle.loads,
}
"""Each raises any exception for bytes it cannot read."""
