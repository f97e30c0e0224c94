"""Values as Python code: what can be written, and how."""

from __future__ import annotations

import math
import pprint
import re
import sys
import typing as t
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo


class Code(str):
    """An expression. Its ``repr`` is itself, so a container's ``repr`` is code too."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The expression."""
        return str(self)


_IMPORTS: dict[type, str] = {
    timedelta: "import datetime",
    date: "import datetime",
    datetime: "import datetime",
    time: "import datetime",
    timezone: "import datetime",
    ZoneInfo: "import zoneinfo",
    Decimal: "from decimal import Decimal",
    UUID: "from uuid import UUID",
}
"""Types whose ``repr`` is code after this import. Their subclasses' need not be."""


def as_code(value: t.Any, imports: set[str] | None = None) -> t.Any:
    """The value as plain containers, texts and numbers, and :class:`Code` for others.

    :param imports: The import statements this code needs are added to it.
    :raises ValueError: It, or something in it, cannot be written.
    """
    imports = set() if imports is None else imports
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, bytes, int, float):
        if isinstance(value, kind):
            return _plain(value, kind)
    if isinstance(value, Mapping):
        return {
            as_code(key, imports): as_code(each, imports) for key, each in value.items()
        }
    for container in (list, tuple, set, frozenset):
        if isinstance(value, container):
            return container(as_code(each, imports) for each in value)
    return _expression(value, imports)


def as_text(value: t.Any, column: int, imports: set[str]) -> str:
    """The value as code, over several lines where it is long.

    :param column: How far its later lines are indented.
    :param imports: As in :func:`as_code`.
    :raises ValueError: It cannot be written.
    """
    text = pprint.pformat(as_code(value, imports), width=88 - column, sort_dicts=False)
    return text.replace("\n", "\n" + " " * column)


def _plain(value: t.Any, kind: t.Any) -> t.Any:
    """A text or number without the class that was made of it, such as an enum."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"cannot be written as code: {value!r}")
    # Why not str(): that of an enum may be the member's name.
    return str.__str__(value) if isinstance(value, str) else kind(value)


def _expression(value: t.Any, imports: set[str]) -> Code:
    if isinstance(value, re.Pattern):
        imports.add("import re")
        flags = value.flags & ~re.UNICODE
        return Code(f"re.compile({value.pattern!r}{f', {flags}' if flags else ''})")
    if callable(value):
        return _reference(value, imports)
    zone = getattr(value, "tzinfo", None)
    for each in (value, zone):
        if each is not None:
            _need(each, imports)
    return Code(repr(value))


def _need(value: t.Any, imports: set[str]) -> None:
    statement = _IMPORTS.get(type(value))
    if statement is None or (isinstance(value, ZoneInfo) and value.key is None):
        raise ValueError(f"cannot be written as code: {value!r}")
    imports.add(statement)


def _reference(function: t.Any, imports: set[str]) -> Code:
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", "")
    found: t.Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function or module == "__main__":
        raise ValueError(f"cannot be imported by a name: {function!r}")
    imports.add(f"import {module}")
    return Code(f"{module}.{name}")
