"""``flask tasks migrate-config``: Celery's configuration as ours."""

from __future__ import annotations

import datetime
import pprint
import re
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from uuid import UUID

import click
from flask import current_app
from flask.cli import with_appcontext
from werkzeug.utils import ImportStringError, import_string

from ..celery_settings import name_of
from ..migration import Translation, translate
from .printing import echo_json, json_option

_OURS_ALONE = ("CELERY", "BROKER_")
"""How a name in an app's configuration begins that is surely Celery's."""

_LIKE_CELERYS = (*_OURS_ALONE, "task_", "worker_", "broker_", "result_", "beat_")


@click.command("migrate-config")
@click.argument("object_name", metavar="[OBJECT]", required=False)
@json_option
@with_appcontext
def migrate_config(object_name: str | None, json: bool) -> None:
    """Print Celery's configuration as this extension's.

    OBJECT is what Celery's config_from_object takes, or the Celery app itself:
    'proj.celeryconfig', 'proj.settings:Config', 'proj.celery:app'. Without it the
    Flask app's own configuration is read: CELERY_* and BROKER_* keys, and the dict
    CELERY. Passwords in URLs are printed: they are needed.

    Exit codes: 0 printed, 1 there are no settings of Celery, 2 OBJECT cannot be
    imported.
    """
    if object_name is None:
        place, settings = "app.config", _of_app(current_app.config)
    else:
        place, settings = object_name, _of_object(_imported(object_name))
    if not settings:
        raise click.ClickException(
            f"{place} has no settings of Celery: name the module or object that has,"
            " as in 'flask tasks migrate-config proj.celeryconfig'"
        )
    done = translate(settings)
    if json:
        echo_json({**asdict(done), "config": _json_value(done.config)})
    else:
        click.echo(_as_python(done, place))


def _imported(name: str) -> t.Any:
    """What the name stands for.

    :raises click.UsageError: Importing it fails.
    """
    try:
        return import_string(name)
    except Exception as error:  # the module is the user's
        cause = error.exception if isinstance(error, ImportStringError) else error
        raise click.UsageError(
            f"expected OBJECT to be a module or module:object, cannot import"
            f" {name!r}: {type(cause).__name__}: {cause}"
        ) from error


def _of_app(config: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Celery's settings among an app's."""
    found = {
        key: value
        for key, value in config.items()
        if key != "CELERY" and (key.startswith(_OURS_ALONE) or _is_new(key))
    }
    nested = config.get("CELERY")
    return found | (dict(nested) if isinstance(nested, Mapping) else {})


def _is_new(key: str) -> bool:
    return key == key.lower() and name_of(key) is not None


def _of_object(source: t.Any) -> dict[str, t.Any]:
    """Celery's settings of a module, class, instance, dict or Celery app."""
    if isinstance(source, Mapping):
        return dict(source)
    if hasattr(getattr(source, "conf", None), "table"):  # of a Celery app
        found = source.conf.table(with_defaults=False, censored=False)
    else:
        names = (name for name in dir(source) if not name.startswith("_"))
        found = {name: getattr(source, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if name_of(name) or name.startswith(_LIKE_CELERYS)
    }


def _json_value(value: t.Any) -> t.Any:
    """The value as JSON has it, as code where JSON has nothing like it."""
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else _code(key): _json_value(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_value(each) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _code(value)


def _code(value: t.Any) -> str:
    try:
        return _Code().pformat(value)
    except TypeError:
        return repr(value)


def _as_python(done: Translation, place: str) -> str:
    """A module to paste from: assignments, then comments."""
    lost = dict(done.no_counterpart)
    imports: set[str] = set()
    lines = []
    for key, value in done.config.items():
        code = _Code(indented=len(key) + 3)
        try:
            lines.append(f"{key} = {code.pformat(value)}")
            imports |= code.imports
        except TypeError as error:
            lost[key] = str(error)
    head = [f"# {place}, by: flask tasks migrate-config"]
    head += sorted(imports, key=lambda line: (line.startswith("from"), line))
    return "\n".join([*head, "", *lines, *_comments(done, lost)])


def _comments(done: Translation, lost: Mapping[str, str]) -> Iterator[str]:
    if done.options:
        yield from ("", f"# Start it with: flask worker {' '.join(done.options)}")
    for title, rows in (
        ("Note:", done.notes),
        ("Without a counterpart:", lost),
    ):
        if rows:
            yield from ("", f"# {title}")
            for name, reason in rows.items():
                yield "#   " + " ".join(f"{name}: {reason}".split())


class _Code(pprint.PrettyPrinter):
    """Writes values as Python code, and keeps the imports it needs."""

    def __init__(self, indented: int = 0) -> None:
        super().__init__(width=88 - indented, sort_dicts=False)
        self.imports: set[str] = set()
        self._indentation = " " * indented

    def pformat(self, object: object) -> str:
        """The code of a value, its later lines indented."""
        return super().pformat(object).replace("\n", "\n" + self._indentation)

    def format(
        self, object: t.Any, context: dict[int, int], maxlevels: int, level: int
    ) -> tuple[str, bool, bool]:
        """The code of one value, and two flags that only pprint reads.

        :raises TypeError: There is none.
        """
        if isinstance(object, re.Pattern):
            self.imports.add("import re")
            flags = object.flags & ~re.UNICODE
            more = f", {flags}" if flags else ""
            return f"re.compile({object.pattern!r}{more})", True, False
        if callable(object):
            return self._reference(object), True, False
        if isinstance(object, datetime.timedelta | datetime.date | datetime.time):
            self.imports.add("import datetime")
        elif isinstance(object, Decimal | UUID):
            kind = type(object)
            self.imports.add(f"from {kind.__module__} import {kind.__name__}")
        elif not isinstance(object, _LITERALS):
            raise TypeError(f"cannot be written as code: {object!r}")
        return super().format(object, context, maxlevels, level)

    def _reference(self, function: t.Any) -> str:
        module = getattr(function, "__module__", None)
        name = getattr(function, "__qualname__", "")
        if not module or not name.isidentifier():
            raise TypeError(f"cannot be imported by a name: {function!r}")
        self.imports.add(f"from {module} import {name}")
        return str(name)


_LITERALS = (str, bytes, int, float, type(None), dict, list, tuple, set, frozenset)
