"""Celery's settings to ours. Pure: reads no configuration and prints nothing."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .celery_readers import READERS, Found, Reader, options
from .celery_settings import NO_COUNTERPART
from .config import load_config
from .errors import ConfigError
from .python_code import as_code


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of Celery's settings.

    :param config: Values by our key. :func:`.config.load_config` accepts them, and
        :mod:`.python_code` can write them.
    :param options: Of ``flask worker``: words, such as ``-c``, ``4``.
    :param no_counterpart: Reasons by setting, spelled as it was found, or by a part
        of it, as in ``beat_schedule['dusk']``.
    :param notes: What differs, by our key or option.
    """

    config: dict[str, t.Any] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    no_counterpart: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def translate(settings: Mapping[str, t.Any]) -> Translation:
    """Translate settings, in any of Celery's spellings.

    :param settings: Nothing else may be among them: what is unknown is reported.
    """
    done = Translation()
    found = Found(done.no_counterpart)
    for spelling, value in settings.items():
        found.add(spelling, value)
    for name, spelling in found.spellings.items():
        if name in NO_COUNTERPART:
            done.no_counterpart[spelling] = NO_COUNTERPART[name]
    for key, read in READERS.items():
        _put(done, found, key, read)
    _drop_refused(done, found)
    done.options.extend(options(found))
    done.notes.update(_notes(done.config, found))
    return done


def _put(done: Translation, found: Found, key: str, read: Reader) -> None:
    """Add a key if it has a value that can be written."""
    try:
        value = read(found)
        as_code(value)
    except (ValueError, TypeError) as error:
        text = str(error) if isinstance(error, ConfigError) else f"{key}: {error}"
        found.lose_key(key, text)
    else:
        if value is not None:
            done.config[key] = value


def _drop_refused(done: Translation, found: Found) -> None:
    """Drop what an app would refuse, one at a time: a key may depend on another."""
    while True:
        try:
            # Why signed: unsigned pickle is said in the notes, not in a log, too.
            load_config({**done.config, "TASKQUEUE_SIGN": True}, {})
        except ConfigError as error:
            named = re.findall("'(TASKQUEUE_[A-Z_]+)'", str(error))
            key = next(key for key in named if key in done.config)
            del done.config[key]
            found.lose_key(key, str(error))
        else:
            return


def _calls(config: Mapping[str, t.Any], _: Found) -> bool:
    """Whether a function is among the routes."""
    return any(map(callable, _listed_routes(config)))


def _keyed(config: Mapping[str, t.Any], _: Found) -> bool:
    """Whether a route names a routing key."""
    by_name = (entry for entry in _listed_routes(config) if isinstance(entry, Mapping))
    return any(
        isinstance(each, Mapping) for entry in by_name for each in entry.values()
    )


def _listed_routes(config: Mapping[str, t.Any]) -> list[t.Any]:
    routes = config.get("TASKQUEUE_ROUTES", [])
    return routes if isinstance(routes, list) else [routes]


def _unsigned_pickle(config: Mapping[str, t.Any], _: Found) -> bool:
    accepted = config.get("TASKQUEUE_ACCEPT_CONTENT", ())
    return "pickle" in accepted and "TASKQUEUE_SIGN" not in config


def _host_zone(config: Mapping[str, t.Any], found: Found) -> bool:
    """Whether Celery reads crontabs in the zone of the host."""
    if found.values.get("enable_utc", True):
        return False
    return "TASKQUEUE_BEAT_SCHEDULE" in config and "TASKQUEUE_TIMEZONE" not in config


def _has(key: str) -> _Says:
    return lambda config, _: bool(config.get(key))


_Says: t.TypeAlias = Callable[[Mapping[str, t.Any], Found], bool]

_NOTES: tuple[tuple[str, _Says, str], ...] = (
    (
        "on_worker_lost",
        lambda _, found: not found.get("task_acks_late"),
        "Celery forgets a job that was running when its worker was lost; here it runs"
        ' again: @tq.task(on_worker_lost="fail") for one that must not run twice',
    ),
    (
        "TASKQUEUE_DEFAULT_QUEUE",
        lambda config, _: "TASKQUEUE_DEFAULT_QUEUE" not in config,
        "is 'default', where Celery's is 'celery': a worker with -Q celery would serve"
        " nothing; change -Q, or set it to 'celery'",
    ),
    (
        "TASKQUEUE_QUEUES",
        _has("TASKQUEUE_QUEUES"),
        "a worker serves them in this order",
    ),
    ("TASKQUEUE_ROUTES", _calls, "a function is called without Celery's task="),
    (
        "TASKQUEUE_ROUTES",
        _keyed,
        "there are no exchanges: the first of TASKQUEUE_QUEUES whose routing key fits"
        " gets the job",
    ),
    ("TASKQUEUE_SIGN", _has("TASKQUEUE_SIGN"), "needs the app's SECRET_KEY"),
    (
        "TASKQUEUE_ACCEPT_CONTENT",
        _unsigned_pickle,
        "has pickle without TASKQUEUE_SIGN: whoever can write to Redis can run code in"
        " the workers",
    ),
    (
        "TASKQUEUE_TIMEZONE",
        _host_zone,
        "is UTC; Celery took the host's zone, as enable_utc is off: name that zone",
    ),
    (
        "TASKQUEUE_BEAT_SCHEDULE",
        _has("TASKQUEUE_BEAT_SCHEDULE"),
        "flask beat check says whether its tasks exist and their arguments fit",
    ),
    (
        "TASKQUEUE_EAGER",
        _has("TASKQUEUE_EAGER"),
        "raises in the caller, unless TASKQUEUE_EAGER_PROPAGATES is false",
    ),
)
"""What to know, by key or option, if the test says so."""


def _notes(config: Mapping[str, t.Any], found: Found) -> dict[str, str]:
    notes: dict[str, list[str]] = {}
    for name, says, text in _NOTES:
        if says(config, found):
            notes.setdefault(name, []).append(text)
    return {name: "; ".join(texts) for name, texts in notes.items()}
