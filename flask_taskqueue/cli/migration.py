"""``flask tasks migrate-config``: Celery's configuration as ours."""

from __future__ import annotations

import shlex
import typing as t
from collections.abc import Iterator, Mapping

import click
from flask import current_app
from werkzeug.utils import ImportStringError, import_string

from ..celery_settings import name_of
from ..migration import Translation, translate
from ..python_code import as_code, as_text
from .printing import echo_json, json_option, printable

_OURS_ALONE = ("CELERY", "BROKER_")
"""How a name in an app's configuration begins that is surely Celery's."""

_LIKE_CELERYS = (*_OURS_ALONE, "task_", "worker_", "broker_", "result_", "beat_")


@click.command("migrate-config")
@click.argument("object_name", metavar="[OBJECT]", required=False)
@json_option
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
        echo_json(
            {
                "config": _as_json(as_code(done.config)),
                "options": done.options,
                "no_counterpart": done.no_counterpart,
                "notes": done.notes,
            }
        )
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


def _as_json(code: t.Any) -> t.Any:
    """What :func:`.as_code` gave, as JSON has it, or as text where it has nothing."""
    if isinstance(code, dict):
        return {
            key if isinstance(key, str) else repr(key): _as_json(each)
            for key, each in code.items()
        }
    if isinstance(code, list | tuple | set | frozenset):
        return [_as_json(each) for each in code]
    return repr(code) if isinstance(code, bytes) else code


def _as_python(done: Translation, place: str) -> str:
    """A module to paste from: assignments, then comments."""
    imports: set[str] = set()
    lines = [
        f"{key} = {as_text(value, len(key) + 3, imports)}"
        for key, value in done.config.items()
    ]
    head = [_comment(f"{place}, by: flask tasks migrate-config")]
    head += sorted(imports, key=lambda line: (line.startswith("from"), line))
    return "\n".join([*head, "", *lines, *_comments(done)])


def _comments(done: Translation) -> Iterator[str]:
    if done.options:
        words = shlex.join(done.options)
        yield from ("", _comment(f"Start it with: flask worker {words}"))
    for title, rows in (
        ("Note:", done.notes),
        ("Without a counterpart:", done.no_counterpart),
    ):
        if rows:
            yield from ("", _comment(title))
            for name, reason in rows.items():
                yield _comment(f"  {name}: {reason}")


def _comment(text: str) -> str:
    """One line, whatever is in a name or a message."""
    return "# " + printable(text)
