"""Turns calls and results into bytes and back: both halves of one format."""

from __future__ import annotations

import reprlib
import typing as t
import zlib

from .content import DECODERS, ENCODERS, JSON, MSGPACK, PICKLE
from .errors import ContentDisallowed, DecodeError, PayloadTooLarge, TaskQueueError

CONTENT_TYPES = tuple(ENCODERS)
"""What ``TASKQUEUE_SERIALIZER`` and ``TASKQUEUE_ACCEPT_CONTENT`` may name."""

COMPRESS_ABOVE_BYTES = 1024
"""Shorter data is stored as it is: zlib would save little of it."""

_VALUES = "None, bool, int, float, str, list, dict, datetime, date, time, Decimal, UUID"
_EXPECTED = {
    JSON: f"JSON ({_VALUES}, bytes)",
    MSGPACK: f"msgpack ({_VALUES}, bytes; str or bytes as dict keys)",
    PICKLE: "picklable",
}

_MAX_STEPS = 50
"""Most steps of a path in an error: a value nested deeper is not looked through."""

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 120


def content_type_of(data: bytes) -> str:
    """The content type of a job of plain RQ, told from its first byte.

    :raises DecodeError: It is neither a pickle nor a JSON list.
    """
    if data.startswith(b"\x80"):
        return PICKLE
    if data.startswith(b"["):
        return JSON
    raise DecodeError(
        f"expected a pickle (0x80) or a JSON list ('['), got {data[:1]!r} first"
    )


def dumps(value: object, content_type: str = JSON) -> bytes:
    """Encode a value.

    JSON and msgpack carry JSON's values plus datetime (with its offset), date,
    time, Decimal, UUID and bytes there and back. Tuples come back as lists. In
    JSON, dict keys come back as strings.

    :param content_type: One of :data:`CONTENT_TYPES`.
    :raises TypeError: Something in the value cannot be encoded; the message says
        where it is, e.g. ``value['a'][1]``.
    :raises ConfigError: ``msgpack`` is not installed.
    """
    return _encoded(value, content_type, "value", ())


def loads(data: bytes, content_type: str, accept: t.Collection[str]) -> t.Any:
    """Decode what :func:`dumps` wrote. The data may come from anyone.

    :param accept: Content types that may be decoded, looked at first.
    :raises ContentDisallowed: The content type is not accepted, or unknown.
    :raises DecodeError: The bytes are not of this content type.
    :raises ConfigError: ``msgpack`` is not installed.
    """
    if content_type not in accept:
        raise ContentDisallowed(
            f"expected a content type of TASKQUEUE_ACCEPT_CONTENT"
            f" ({', '.join(accept)}), got {content_type!r}: not decoded"
        )
    if content_type not in CONTENT_TYPES:
        raise ContentDisallowed(
            f"expected TASKQUEUE_ACCEPT_CONTENT to name some of"
            f" {', '.join(CONTENT_TYPES)}, got {content_type!r}: not decoded"
        )
    try:
        return DECODERS[content_type](data)
    except TaskQueueError:
        raise
    except Exception as error:  # Unpickling runs code of the user's classes.
        raise DecodeError(
            f"expected {len(data)} bytes to be {content_type},"
            f" got {type(error).__name__}: {_brief_of(error)}"
        ) from error


def dump_call(
    function_name: str,
    args: t.Sequence[object],
    kwargs: t.Mapping[str, object],
    content_type: str,
    max_bytes: int,
) -> bytes:
    """Encode a call in RQ's layout: ``[function_name, None, args, kwargs]``.

    With ``json`` this is what ``rq.serializers.JSONSerializer`` reads.

    :param max_bytes: Most bytes the encoded call may have.
    :raises TypeError: An argument cannot be encoded; the message names it, e.g.
        ``argument 0``, ``argument 'x'`` or ``argument 1['a']``.
    :raises PayloadTooLarge: It has more than ``max_bytes``.
    """
    for name in kwargs:
        if not isinstance(name, str):
            raise TypeError(f"expected argument names to be str, got {_brief_of(name)}")
    call = [function_name, None, list(args), dict(kwargs)]
    data = _encoded(call, content_type, "the call", _named(args, kwargs))
    _check_size(data, max_bytes)
    return data


def load_call(
    data: bytes, content_type: str, accept: t.Collection[str], max_bytes: int
) -> tuple[str, t.Any, list[t.Any], dict[str, t.Any]]:
    """Decode what :func:`dump_call`, or plain RQ, wrote.

    :return: Function name, instance (RQ's, for methods), arguments, keyword
        arguments.
    :raises PayloadTooLarge: It has more than ``max_bytes``; not decoded.
    :raises ContentDisallowed: As in :func:`loads`.
    :raises DecodeError: It is not of this content type, or not a call.
    """
    _check_size(data, max_bytes)
    call = loads(data, content_type, accept)
    if not isinstance(call, list | tuple) or len(call) != 4:
        raise DecodeError(
            f"expected a call to be a list of 4 items, got {_described(call)}"
        )
    name, instance, args, kwargs = call
    if not isinstance(name, str):
        raise DecodeError(f"expected a function's name, got {_described(name)}")
    if not isinstance(args, list | tuple):
        raise DecodeError(f"expected a list of arguments, got {_described(args)}")
    if not isinstance(kwargs, dict) or not (
        kwargs == {} or all(isinstance(k, str) for k in kwargs)
    ):
        raise DecodeError(
            f"expected a dict of keyword arguments, got {_described(kwargs)}"
        )
    return name, instance, list(args), kwargs


def compress(data: bytes) -> bytes:
    """Shorten data over :data:`COMPRESS_ABOVE_BYTES` (zlib, the fastest level)."""
    return zlib.compress(data, 1) if len(data) > COMPRESS_ABOVE_BYTES else data


def decompress(data: bytes, max_bytes: int) -> bytes:
    """Undo :func:`compress`; data that is not zlib is returned as it is (RQ's rule).

    No call or result is taken for zlib: JSON never starts with ``x`` (0x78), a
    pickle starts with 0x80, and in msgpack 0x78 is a whole value.

    :param max_bytes: Most bytes to make of it. No more than that is expanded.
    :raises PayloadTooLarge: It is longer.
    :raises DecodeError: The end of the compressed data is missing.
    """
    if data[:1] != b"x" or len(data) < 2 or int.from_bytes(data[:2], "big") % 31:
        return data  # RFC 1950: the two bytes of a header are a multiple of 31
    stream = zlib.decompressobj()
    try:
        # One more than allowed: tells "too long" from "just fits", and 0 would
        # mean no limit.
        plain = stream.decompress(data, max_bytes + 1)
    except zlib.error:
        return data
    if len(plain) > max_bytes:
        raise PayloadTooLarge(
            f"expected at most {max_bytes} bytes, got more in {len(data)} compressed"
        )
    if not stream.eof:
        raise DecodeError(f"expected {len(data)} bytes to be zlib, got a part of it")
    return plain


def _check_size(data: bytes, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise PayloadTooLarge(
            f"expected arguments of at most {max_bytes} bytes"
            f" (TASKQUEUE_MAX_ARGS_BYTES), got {len(data)} bytes"
        )


def _named(
    args: t.Sequence[object], kwargs: t.Mapping[str, object]
) -> t.Iterator[tuple[str, object]]:
    for position, value in enumerate(args):
        yield f"argument {position}", value
    for name, value in kwargs.items():
        yield f"argument {name!r}", value


def _encoded(
    value: object,
    content_type: str,
    name: str,
    parts: t.Iterable[tuple[str, object]],
) -> bytes:
    """Encode a value, or raise the TypeError that names what is to blame.

    The encoder runs first; only when it fails is the culprit looked for.

    :param name: What the error calls the whole value.
    :param parts: Names and values of its parts, blamed rather than the whole.
    """
    if content_type not in ENCODERS:
        raise ValueError(
            f"expected a content type to be one of {', '.join(CONTENT_TYPES)},"
            f" got {content_type!r}"
        )
    encode = ENCODERS[content_type]
    done = _attempt(encode, value)
    if isinstance(done, bytes):
        return done
    blamed = (name, value, done)
    for part_name, part in parts:
        failure = _attempt(encode, part)
        if not isinstance(failure, bytes):
            blamed = (part_name, part, failure)
            break
    raise _refusal(encode, _EXPECTED[content_type], *blamed) from done


def _attempt(encode: t.Callable[[t.Any], bytes], value: object) -> bytes | Exception:
    try:
        return encode(value)
    except (TaskQueueError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code
        return error


def _refusal(
    encode: t.Callable[[t.Any], bytes],
    expected: str,
    where: str,
    value: t.Any,
    error: Exception,
) -> TypeError:
    """The error for the innermost value that cannot be encoded by itself."""
    seen: set[int] = set()
    inner: tuple[str, t.Any, Exception] | None = (where, value, error)
    while inner and len(seen) < _MAX_STEPS:
        where, value, error = inner
        seen.add(id(value))
        inner = None
        for step, child in _children(value):
            if id(child) in seen:
                continue
            cause = _attempt(encode, child)
            if not isinstance(cause, bytes):
                inner = (f"{where}[{_brief_of(step)}]", child, cause)
                break
    text = f"expected {where} to be {expected}, got {_described(value)}"
    # A list or a number can be refused for what it holds; a set needs no reason.
    if isinstance(value, dict | list | tuple | int):
        text += f" ({_brief_of(error)})"
    return TypeError(text)


def _children(value: t.Any) -> t.Iterable[tuple[t.Any, t.Any]]:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    return ()


def _described(value: object) -> str:
    name = type(value).__qualname__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return f"{article} {name}: {_brief_of(value)}"


def _brief_of(value: object) -> str:
    try:
        return _brief.repr(value)
    except Exception:  # noqa: BLE001 - repr() is the user's code
        return f"<{type(value).__qualname__} object>"
