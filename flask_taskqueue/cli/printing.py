"""How commands answer: tables, one JSON document, one line for an error."""

from __future__ import annotations

import errno
import json
import typing as t
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo

import click
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ..errors import BrokerUnavailable, TaskQueueError

UNREACHABLE = 69
"""Exit code while Redis is away (EX_UNAVAILABLE of sysexits.h)."""

json_option: t.Callable[[t.Any], t.Any] = click.option(
    "--json", is_flag=True, help="Print one JSON document."
)


class Unreachable(click.ClickException):
    """Redis is away: one line, and an exit code of its own."""

    exit_code = UNREACHABLE


class Group(click.Group):
    """Commands whose expected errors are one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> t.Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokerUnavailable as error:
            raise Unreachable(unavailable(error)) from error
        except (TaskQueueError, RedisError) as error:
            raise click.ClickException(printable(str(error))) from error
        except OSError as error:
            # Where the output goes there is no room. The rest is not expected.
            if error.errno != errno.ENOSPC:
                raise
            raise click.ClickException(f"cannot write: {error.strerror}") from error


def unavailable(error: BrokerUnavailable) -> str:
    """What is wrong with Redis, as one line."""
    answered = isinstance(error.__cause__, (ResponseError, AuthenticationError))
    return printable(f"Redis refused: {error}" if answered else f"cannot reach {error}")


def printable(text: str, keep: str = "") -> str:
    """A text that does nothing to a terminal: the rest becomes escapes.

    :param keep: Characters that stay all the same, such as line ends.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in keep
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def echo_json(document: object) -> None:
    """Print a document. Text beyond ASCII is escaped, other values are their repr."""
    click.echo(json.dumps(document, indent=2, default=repr))


def echo_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns: numbers to the right, ``None`` as a dash."""
    cells = [heads, *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numbers = [
        all(cell.isdecimal() for cell in column[1:]) and len(column) > 1
        for column in zip(*cells, strict=True)
    ]
    for row in cells:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def brief_time(instant: datetime | None) -> str | None:
    """An instant in a table, in UTC."""
    if instant is None:
        return None
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def zoned_time(instant: datetime | None, zone: tzinfo) -> str | None:
    """An instant in a time zone, with its offset."""
    if instant is None:
        return None
    local = instant.astimezone(zone)
    return local.isoformat(" ", "milliseconds" if local.microsecond else "seconds")


def cut(text: str, most: int = 60) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
