"""``TASKQUEUE_URL``: what it may look like, and what it says."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from redis.connection import parse_url

from ..errors import ConfigError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "embedded")

# What a reply looks like in Python must not depend on the URL.
_REFUSED = ("decode_responses", "encoding", "legacy_responses", "protocol")


class _Wrong(ValueError):
    """Says what is wrong with a URL and quotes nothing of it: that may be a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Redis is.

    :param options: redis-py's arguments for a connection; with Sentinel without
        those that say where.
    :param directory: Data of the embedded server, when that is meant.
    :param sentinels: Hosts and ports to ask, when Sentinel is meant.
    :param service: Name the Sentinels know the server by.
    :param sentinel_options: redis-py's arguments for connections to Sentinels.
    """

    options: dict[str, t.Any] = field(default_factory=dict)
    directory: Path | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, t.Any] = field(default_factory=dict)


def mask(url: str) -> str:
    """The URL with ``***`` for passwords, also of one that is written wrongly."""
    # Up to the last "@": a password may contain what should have been escaped.
    url = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", url)


def parse(url: str, key: str = "TASKQUEUE_URL") -> Address:
    """Read a URL. Looks at nothing but its text.

    :param key: Where it comes from, for the message.
    :raises ConfigError: It is not of a known form. The message masks passwords.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ConfigError(
            f"expected {key!r} to be a URL that begins with one of"
            f" {', '.join(f'{name}://' for name in SCHEMES)}, got {mask(url)!r}:"
            " Flask-TaskQueue works with Redis or Valkey only"
        )
    reason, cause = "", None
    try:
        if scheme == "embedded":
            return _embedded(rest)
        if scheme == "redis+sentinel":
            return _sentinel(rest)
        return Address(options=_options(url))
    except _Wrong as error:
        reason = f": {error}"
    except ValueError as error:
        # Some of urllib's texts quote what can be a part of the password.
        cause = None if "@" in url else error
    # Why outside the handler: such a text would stay with it as its context.
    raise ConfigError(
        f"expected {key!r} to be {_form(scheme)}, got {mask(url)!r}{reason}"
    ) from cause


def _form(scheme: str) -> str:
    """What a URL of this scheme looks like."""
    if scheme == "embedded":
        return "embedded:// alone, or embedded:/// and an absolute directory"
    forms = {
        "redis+sentinel": (
            "redis+sentinel://[user:password@]host:port,host:port/service[/db]"
        ),
        "unix": "unix://[user:password@]/path/of/socket[?db=N]",
    }
    return forms.get(scheme, f"{scheme}://[user:password@]host[:port][/db]")


def _embedded(directory: str) -> Address:
    if not Path(directory).is_absolute():
        raise _Wrong("the directory is not absolute")
    return Address(directory=Path(directory))


def _sentinel(rest: str) -> Address:
    place, _, query = rest.partition("?")
    hosts, _, path = place.partition("/")
    login, _, hosts = hosts.rpartition("@")
    service, _, db = path.partition("/")
    if not service:
        raise _Wrong("there is no service")
    options = _options(f"redis://{login}{'@' * bool(login)}host/{db}?{query}")
    del options["host"]
    return Address(
        options={
            name: value
            for name, value in options.items()
            if not name.startswith("sentinel_")
        },
        sentinels=tuple(_host_and_port(text) for text in hosts.split(",")),
        service=service,
        sentinel_options={
            name.removeprefix("sentinel_"): value
            for name, value in options.items()
            if name.startswith("sentinel_")
        },
    )


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise _Wrong("there is no host")
    return parts.hostname, _port(parts) or 26379


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _Wrong("the port is no number from 1 to 65535")
    return port


def _options(url: str) -> dict[str, t.Any]:
    """redis-py's reading of the URL, after a look at what it overlooks."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise _Wrong("there is no path")
    else:
        # redis-py takes database 0 and port 6379 for what it cannot read.
        _port(parts)
        if not re.fullmatch(r"/?[0-9]*", parts.path):
            raise _Wrong("the database is no number")
    options: dict[str, t.Any] = parse_url(url)  # type: ignore[no-untyped-call]
    for name in options.keys() & set(_REFUSED):
        raise _Wrong(f"the option {name} is not accepted")
    return options
