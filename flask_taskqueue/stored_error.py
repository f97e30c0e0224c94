"""Stores a task's exception, and rebuilds it where that is safe."""

from __future__ import annotations

import base64
import json
import sys
import types
import typing as t

from .content import JSON, PICKLE
from .errors import DecodeError, TaskFailed
from .serializer import dumps, loads

MAX_MESSAGE_CHARS = 10_000
MAX_TRACEBACK_CHARS = 50_000
MAX_ARGS_BYTES = 100_000
MAX_NAME_CHARS = 1_000


class StoredError(t.TypedDict):
    """What is kept of an exception. Always JSON, whatever the arguments are in."""

    type: str
    """Name of its class, without the module."""
    module: str
    """Module of its class."""
    qualname: str
    """Name of its class below the module."""
    message: str
    """Its text."""
    args: t.Any
    """Its arguments as ``args_type`` says, still encoded: JSON in its place (dates
    and such in kombu's form), others as base64 text. ``None``: not encodable."""
    args_type: str
    """Content type of the arguments: never pickle. Nobody signs an error, and it is
    decoded wherever somebody looks at the job."""
    traceback: str
    """The formatted traceback; of a long one its end."""


def dump_error(
    exc: BaseException, traceback_text: str, content_type: str = JSON
) -> bytes:
    """Encode an exception. This never fails, and what it returns is bounded.

    :param traceback_text: As :func:`traceback.format_exception` gives it, joined.
    :param content_type: How its arguments are encoded: as the job's are, but for
        ``pickle``, which becomes ``json``. Those that cannot be, or take over
        100,000 bytes, are left out.
    """
    cls = type(exc)
    content_type = JSON if content_type == PICKLE else content_type
    stored: StoredError = {
        "type": cls.__name__[:MAX_NAME_CHARS],
        "module": str(cls.__module__)[:MAX_NAME_CHARS],
        "qualname": cls.__qualname__[:MAX_NAME_CHARS],
        "message": _message(exc)[:MAX_MESSAGE_CHARS],
        "args": _encoded_args(exc, content_type),
        "args_type": content_type,
        "traceback": traceback_text[-MAX_TRACEBACK_CHARS:],
    }
    text = json.dumps(stored, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate becomes JSON's own escape.
    return text.encode("utf-8", "backslashreplace")


def load_error(data: bytes) -> StoredError:
    """Decode what :func:`dump_error` wrote; its arguments stay encoded.

    :raises DecodeError: It is not a JSON object, e.g. plain RQ's traceback text.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(
            f"expected {len(data)} bytes to be a stored error,"
            f" got {type(error).__name__}"
        ) from error
    if not isinstance(found, dict):
        raise DecodeError(
            f"expected a stored error to be a dict, got {type(found).__name__}"
        )
    return _checked(found)


def rebuild_error(
    data: bytes | t.Mapping[str, t.Any], accept: t.Collection[str]
) -> Exception:
    """The exception itself, or :class:`~.errors.TaskFailed` with its name and text.

    Itself only if its module is loaded (nothing is imported), the name is that of
    a subclass of ``Exception``, its arguments decode with an accepted content type,
    and its class takes them. The package's own exceptions need no accepted type.

    :param data: From :func:`dump_error`, or from :func:`load_error`. May come from
        anyone.
    :param accept: Content types that may be decoded. ``pickle`` never is: it counts
        as ``json``.
    """
    try:
        stored = load_error(data) if isinstance(data, bytes) else _checked(data)
    except DecodeError as error:
        return TaskFailed("unknown", str(error))
    rebuilt = _rebuilt(stored, accept)
    if rebuilt is not None:
        return rebuilt
    return TaskFailed(_dotted_name(stored), stored["message"])


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - __str__ is the user's code
        return f"<unprintable {type(exc).__name__}>"


def _encoded_args(exc: BaseException, content_type: str) -> t.Any:
    try:
        data = dumps(list(exc.args), content_type)
        if len(data) > MAX_ARGS_BYTES:
            return None
        if content_type == JSON:
            return json.loads(data)
    except Exception:  # noqa: BLE001 - pickling, and args, can be the user's code
        return None
    return base64.b64encode(data).decode()


def _checked(found: t.Mapping[str, t.Any]) -> StoredError:
    """All fields, each of its type, whatever was stored."""

    def text(name: str, otherwise: str = "") -> str:
        value = found.get(name)
        return value if isinstance(value, str) else otherwise

    return {
        "type": text("type", "unknown"),
        "module": text("module"),
        "qualname": text("qualname"),
        "message": text("message"),
        "args": found.get("args"),
        "args_type": text("args_type", JSON),
        "traceback": text("traceback"),
    }


def _dotted_name(stored: StoredError) -> str:
    """As tracebacks show it: builtins without their module."""
    name = stored["qualname"] or stored["type"]
    module = stored["module"]
    return name if module in ("", "builtins") else f"{module}.{name}"


def _rebuilt(stored: StoredError, accept: t.Collection[str]) -> Exception | None:
    cls = _loaded_class(stored["module"], stored["qualname"])
    if cls is None or stored["args"] is None:
        return None
    if stored["module"] == TaskFailed.__module__ and stored["args_type"] == JSON:
        accept = {JSON}
    try:
        exc = cls(*_decoded_args(stored, accept))
    except Exception:  # noqa: BLE001 - the class is the user's code
        return None
    # Its __new__ may have returned anything.
    return exc if isinstance(exc, Exception) else None


def _decoded_args(stored: StoredError, accept: t.Collection[str]) -> list[t.Any]:
    if stored["args_type"] == JSON:
        data = json.dumps(stored["args"]).encode()
    else:
        data = base64.b64decode(stored["args"], validate=True)
    # JSON stands in for pickle, as in dump_error().
    accept = {JSON if kind == PICKLE else kind for kind in accept}
    args = loads(data, stored["args_type"], accept)
    if not isinstance(args, list):
        raise DecodeError("expected an exception's arguments to be a list")
    return args


def _loaded_class(module_name: str, qualname: str) -> type[Exception] | None:
    """The exception class of this name, if its module is loaded.

    Looks into the namespaces only: ``getattr`` would run a module's
    ``__getattr__``, and lazy modules import by that.
    """
    found: object = sys.modules.get(module_name)
    if not isinstance(found, types.ModuleType):
        return None
    for name in qualname.split("."):
        namespace = object.__getattribute__(found, "__dict__")
        found = namespace.get(name)
        # type() and not isinstance(): that asks a proxy for its class.
        if not issubclass(type(found), type):
            return None
    is_exception = isinstance(found, type) and issubclass(found, Exception)
    return t.cast("type[Exception]", found) if is_exception else None
