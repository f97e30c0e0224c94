"""Loads the scripts: from files to what the server runs, and calls one by its SHA1."""

from __future__ import annotations

import hashlib
import re
import typing as t
from dataclasses import dataclass
from functools import cache
from importlib import resources

from redis import Redis
from redis.exceptions import NoScriptError

from .. import keys
from .exchange import Exchange, Exchanges
from .wire import Argument

_KEYS = keys.PREFIXES | keys.NAMES
_KEY = re.compile(r"\bK\.(\w+)")
_INCLUDE = re.compile(r"^-- include: (.*)$", re.MULTILINE)

Client = t.Any  # redis.Redis: its stubs type every reply as an awaitable, too
Sender = Redis | Exchange | Exchanges


@dataclass(frozen=True, slots=True)
class Script:
    """Source of one script, with its SHA1."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Read a script with the parts it includes, its keys written out.

    :param name: File name in ``lua/`` without its suffix.
    """
    folder = resources.files(__package__) / "lua"

    def included(found: re.Match[str]) -> str:
        files = [folder / "lib" / f"{part}.lua" for part in found[1].split()]
        return "\n".join(whole(file.read_text("utf-8")) for file in files)

    def whole(lines: str) -> str:
        return _INCLUDE.sub(included, lines)

    lines = whole((folder / f"{name}.lua").read_text("utf-8"))
    # As text: tables of them would be made anew with every call.
    source = _KEY.sub(lambda found: f"'{_KEYS[found[1]]}'", lines)
    return Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324


def call(client: Sender, name: str, argv: t.Iterable[Argument]) -> t.Any:
    """Run a script by its SHA1; send its source where the server forgot it."""
    script = load(name)
    arguments = tuple(argv)
    untyped: Client = client
    try:
        return untyped.evalsha(script.sha, 0, *arguments)
    except NoScriptError:
        return untyped.eval(script.source, 0, *arguments)
