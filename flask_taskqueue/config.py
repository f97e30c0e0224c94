"""Every configuration key: its type, default, reader and meaning, in one table."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import parsing, patterns, routing
from .broker.url import parse as parse_url
from .errors import ConfigError

PREFIX = "TASKQUEUE_"

logger: logging.Logger = logging.getLogger(__name__)

_FLAG = parsing.Reader("true or false", parsing.flag)
_LIMIT = parsing.optional(parsing.seconds(zero=False))
_PATH = parsing.optional(
    parsing.Reader("a path such as '/tasks' without a slash at its end", parsing.path)
)
_CONTENT = "json, msgpack or pickle"
_RESERVED = "Reserved for a later version: read and checked, without effect."


def _queues(value: t.Any) -> tuple[routing.QueueRule, ...]:
    return routing.parse_queues(parsing.listed(value))


def _routes(value: t.Any) -> tuple[routing.RouteLookup, ...]:
    return routing.parse_routes(parsing.decoded(value))


def _key(
    default: t.Any,
    reader: parsing.Reader,
    meaning: str,
    *,
    shown: str | None = None,
    repr: bool = True,
) -> t.Any:
    """One row: a field of :class:`Config` that knows how it is read.

    :param shown: The default as the table of keys writes it, if not as Python does.
    """
    metadata = {"reader": reader, "meaning": meaning, "shown": shown or f"{default!r}"}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata, repr=repr)
    return field(default=default, metadata=metadata, repr=repr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An app's settings, read and checked once, in ``init_app``.

    Made by :func:`load_config`. Its fields are the keys in lower case without
    ``TASKQUEUE_``; what each means stands in its row.
    """

    url: str | None = _key(
        None,
        parsing.optional(
            parsing.Reader("a URL such as 'redis://localhost:6379/0'", parsing.url)
        ),
        "Where Redis is: `redis://`, `rediss://`, `unix://`,"
        " `redis+sentinel://h1:26379,h2:26379/mymaster/0` or `embedded://[dir]` (an"
        " absolute directory; the app's instance folder by default). `None` is"
        " `embedded://` while developing, and an error at the first use under a WSGI"
        " server.",
        repr=False,  # it holds a password, and reprs end up in logs
    )
    default_queue: str = _key(
        "default",
        parsing.Reader("a queue name", patterns.check_queue_name),
        "Queue of a call that nothing else decides.",
        shown='"default"',
    )
    queues: tuple[routing.QueueRule, ...] = _key(
        (),
        parsing.Reader("a list of queues", _queues),
        "Queues a worker serves, in order of priority. An entry is a name or"
        ' `{"name": "feed_task", "routing_key": "*.feed"}`. A worker serves no'
        " others: list the default queue too.",
        shown="[default queue]",
    )
    routes: tuple[routing.RouteLookup, ...] = _key(
        (),
        parsing.Reader("a dict, a list of pairs or a function", _routes),
        "Queue by task name: a dict (exact names first, then patterns in order), a"
        " list of pairs (first match wins), or a function"
        " `(name, args, kwargs, options) -> queue, dict or None`. A name may be a"
        " pattern or a compiled regex. A value is a queue or"
        ' `{"queue": …, "routing_key": …}`.',
        shown="{}",
        repr=False,
    )
    imports: tuple[str, ...] = _key(
        (),
        parsing.texts("a list of module names"),
        "Modules with tasks that your app factory does not import: a worker, a"
        " beat and `flask tasks` do. What the factory imports needs no entry.",
        shown="[]",
    )
    importable: tuple[str, ...] = _key(
        (),
        parsing.texts("a list of patterns", patterns.check_pattern),
        "Patterns of plain functions a worker may import for jobs of plain `rq`"
        ' producers, such as `"myapp.jobs.*"`. Begin each with a package of yours:'
        ' `"#"` would admit `subprocess.call`.',
        shown="[]",
    )
    serializer: str = _key(
        "json",
        parsing.Reader(_CONTENT, parsing.content),
        "How arguments and results are written: `json`, `msgpack` or `pickle`"
        " (`pickle` only together with `TASKQUEUE_SIGN`).",
        shown='"json"',
    )
    accept_content: tuple[str, ...] = _key(
        ("json",),
        parsing.texts(f"a list of {_CONTENT}", parsing.content),
        "What is decoded. Names the serializer too; left out, it is the serializer"
        " and `json`. `pickle` without `TASKQUEUE_SIGN` warns.",
        shown='["json"]',
    )
    sign: bool = _key(
        False,
        _FLAG,
        "Sign jobs and results with a key derived from `SECRET_KEY`, and refuse"
        " what is unsigned or altered.",
    )
    max_args_bytes: int = _key(
        1024**2,
        parsing.integer(1),
        "Larger arguments are `PayloadTooLarge` in the caller.",
        shown="1048576 (1 MiB)",
    )
    max_result_bytes: int = _key(
        16 * 1024**2,
        parsing.integer(1),
        "A larger result is a failure named `PayloadTooLarge`.",
        shown="16777216 (16 MiB)",
    )
    max_retries: int | None = _key(
        3,
        parsing.optional(parsing.integer(0)),
        "Retries after the first execution; `None` means for ever.",
    )
    default_retry_delay: float = _key(
        180.0,
        parsing.seconds(zero=True),
        "Seconds before a retry.",
        shown="180",
    )
    time_limit: float | None = _key(
        None, _LIMIT, "Seconds after which a running task is killed; `None`: never."
    )
    soft_time_limit: float | None = _key(
        None,
        _LIMIT,
        "Seconds after which `SoftTimeLimitExceeded` is raised inside the task;"
        " `None`: never. At most `TASKQUEUE_TIME_LIMIT`.",
    )
    result_ttl: int = _key(
        86_400,
        parsing.whole_seconds(),
        "Seconds a job and its result are kept after success. Nothing is kept for"
        " ever.",
        shown="86400 (1 day)",
    )
    failure_ttl: int = _key(
        604_800,
        parsing.whole_seconds(),
        "Seconds a failed job is kept.",
        shown="604800 (7 days)",
    )
    ignore_result: bool = _key(False, _FLAG, "Store no results.")
    timezone: str = _key(
        "UTC",
        parsing.Reader("a time zone such as 'Europe/Berlin'", parsing.timezone),
        "Time zone of schedules that name none, and of their display; a naive eta is"
        " UTC whatever it says.",
        shown='"UTC"',
    )
    beat_schedule: Mapping[str, t.Any] = _key(
        {},
        parsing.named_values("a dict of entries by name"),
        "Entries of `flask beat` by name, in Celery's shape.",
        repr=False,  # arguments belong in no log
    )
    eager: bool = _key(
        False,
        _FLAG,
        "Run tasks in the caller, by the worker's own code, without Redis. Read at"
        " each call.",
    )
    eager_propagates: bool = _key(
        True, _FLAG, "Raise an eager task's exception in the caller. Read at each call."
    )
    carry_headers: tuple[str, ...] = _key(
        ("X-Request-ID",),
        parsing.texts(
            "a list of header names other than Cookie, Authorization and"
            " Proxy-Authorization",
            parsing.header,
        ),
        "Request headers that travel with a job. `Cookie`, `Authorization` and"
        " `Proxy-Authorization` are refused.",
        shown='["X-Request-ID"]',
    )
    log_results: bool = _key(True, _FLAG, "Log results, cut to 100 characters.")
    redact: tuple[str, ...] = _key(
        ("password", "token", "secret", "authorization"),
        parsing.texts("a list of texts"),
        "Names whose values are hidden where arguments are shown.",
        shown='["password", "token", "secret", "authorization"]',
    )
    status_prefix: str | None = _key(
        "/tasks",
        _PATH,
        "Path of the JSON endpoint; `None` leaves it out.",
        shown='"/tasks"',
    )
    max_streams: int = _key(
        32,
        parsing.integer(0),
        "Long polls (`?wait=`) and event streams an app holds at once in a process."
        " With `0` there are none: a job is answered at once.",
    )
    dashboard_prefix: str | None = _key(
        None, _PATH, f"{_RESERVED} Path of the dashboard; `None`: none."
    )
    router: routing.Router = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.queues:
            object.__setattr__(self, "queues", (routing.QueueRule(self.default_queue),))
        router = routing.Router(self.queues, self.routes, self.default_queue)
        object.__setattr__(self, "router", router)


_ROWS = {row.name: row for row in dataclasses.fields(Config) if row.metadata}


def load_config(values: Mapping[str, t.Any], keywords: Mapping[str, t.Any]) -> Config:
    """An app's settings: its own, then the keywords, then the defaults.

    :param values: ``app.config``. It is not changed.
    :param keywords: Arguments of ``TaskQueue(…)``, in lower case, no prefix.
    :raises ConfigError: A value cannot be read, or does not go with another one.
    :raises TypeError: A keyword names no key.
    """
    unknown = [name for name in keywords if name not in _ROWS]
    if unknown:
        raise TypeError(
            f"expected keywords out of {', '.join(_ROWS)}, got {', '.join(unknown)}"
        )
    _warn_of_unknown(values)
    found: dict[str, t.Any] = {}
    labels: dict[str, str] = {}
    for name in _ROWS:
        key = PREFIX + name.upper()
        if key in values:
            found[name], labels[name] = _read(name, key, values[key]), key
        elif name in keywords:
            found[name], labels[name] = _read(name, name, keywords[name]), name
        else:
            labels[name] = key
    if "accept_content" not in found:
        writes = found.get("serializer", "json")
        found["accept_content"] = tuple(dict.fromkeys((writes, "json")))
    config = Config(**found)
    _check_url(config.url, labels["url"])
    _check_together(config, labels)
    return config


def read_flag(values: Mapping[str, t.Any], key: str, default: bool) -> bool:
    """A key that is read at each call.

    :param values: ``app.config``.
    :param key: ``TASKQUEUE_EAGER`` or ``TASKQUEUE_EAGER_PROPAGATES``.
    :param default: What counts if the key is missing.
    :raises ConfigError: The value is no flag.
    """
    value = values.get(key, default)
    if value is True or value is False:
        return value
    flag: bool = _read(key.removeprefix(PREFIX).lower(), key, value)
    return flag


def markdown_table() -> str:
    """The table of keys, as ``docs/config.md`` holds it."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, row in _ROWS.items():
        key, default = PREFIX + name.upper(), row.metadata["shown"]
        lines.append(f"| `{key}` | `{default}` | {row.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


def _read(name: str, label: str, value: t.Any) -> t.Any:
    reader: parsing.Reader = _ROWS[name].metadata["reader"]
    try:
        return reader.read(value)
    except (ValueError, OverflowError) as error:
        reason = str(error) if isinstance(error, ValueError) else ""
    # Why outside the handler: the first exception would show the value unmasked.
    message = f"expected {label!r} to be {reader.expected}, got {reader.shown(value)}"
    raise ConfigError(f"{message}: {parsing.masked(reason)}" if reason else message)


def _warn_of_unknown(values: Mapping[str, t.Any]) -> None:
    known = [PREFIX + name.upper() for name in _ROWS]
    for key in values:
        if key.startswith(PREFIX) and key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            logger.warning(
                "unknown configuration key %r is ignored; the nearest known key is %r",
                key,
                nearest,
            )


def _check_url(url: str | None, label: str) -> None:
    # Which directory "embedded://" alone means, the app's state says at first use.
    if url not in (None, "embedded://"):
        parse_url(url, label)


def _check_together(config: Config, labels: Mapping[str, str]) -> None:
    if config.serializer not in config.accept_content:
        raise ConfigError(
            f"expected {labels['accept_content']!r} to contain the serializer"
            f" {config.serializer!r}, got {list(config.accept_content)!r}"
        )
    if config.serializer == "pickle" and not config.sign:
        raise ConfigError(
            f"expected {labels['sign']!r} to be true because"
            f" {labels['serializer']!r} is 'pickle', got {config.sign!r}"
        )
    if "pickle" in config.accept_content and not config.sign:
        logger.warning(
            "%r has 'pickle' without signing: whoever can write to Redis can run"
            " code in the workers",
            labels["accept_content"],
        )
    hard, soft = config.time_limit, config.soft_time_limit
    if hard is not None and soft is not None and soft > hard:
        raise ConfigError(
            f"expected {labels['soft_time_limit']!r} to be at most"
            f" {labels['time_limit']!r}, {hard!r}, got {soft!r}"
        )
    if config.status_prefix and config.status_prefix == config.dashboard_prefix:
        raise ConfigError(
            f"expected {labels['dashboard_prefix']!r} to differ from"
            f" {labels['status_prefix']!r}, got {config.dashboard_prefix!r} for both"
        )
