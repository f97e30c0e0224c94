"""A run as a table, as JSON and as a plot."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from .bench import Bench
from .measuring import Row
from .targets import verdicts

PACKAGES = (
    "flask-taskqueue", "rq", "redis", "hiredis", "huey", "celery", "dramatiq",
)  # fmt: skip


def show(row: Row) -> None:
    """Print one row, and how it stands to its targets."""
    click.echo(f"\n{row.title} ({row.unit}; {row.conditions})")
    for who, values in row.values.items():
        low, high = number(min(values)), number(max(values))
        cells = f"{number(row.median(who)):>10}  {f'{low} to {high}':22}"
        click.echo(f"  {who:34}{cells} best {number(row.best(who))}")
    for note in row.notes:
        click.echo(f"  {note}")
    for verdict in verdicts([row]):
        got = "" if verdict.got is None else f"got {number(verdict.got)}"
        click.echo(f"  {verdict.word.upper():6} {verdict.asked}  {got}")


def number(value: float) -> str:
    """Three digits at least, and no more than that behind the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}"


def about(bench: Bench) -> dict[str, object]:
    """Where it is run, with what and how."""
    found = importlib.metadata.distributions()
    versions = {each.metadata["Name"].lower(): each.version for each in found}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "server": bench.server.version(),
        "packages": {n: versions[n] for n in PACKAGES if n in versions},
        "connected by": "TCP on loopback" if bench.server.tcp else "a Unix socket",
        "rounds": bench.rounds,
        "scale": bench.scale,
        "placement": bench.placement,
    }


def line(about: Mapping[str, object]) -> str:
    """The same in a line, for people."""
    return (
        f"{about['cpus']} CPUs, Python {about['python']}, {about['server']} by"
        f" {about['connected by']}; {about['rounds']} rounds, jobs x"
        f" {about['scale']:g}; median of the rounds, range, best"
    )


def write_json(path: Path, rows: Iterable[Row], about: Mapping[str, object]) -> None:
    """Every value of every round.

    :param about: What :func:`about` gave, and what failed.
    """
    rows = list(rows)
    content = {
        **about,
        "rows": [dataclasses.asdict(row) for row in rows],
        "targets": [dataclasses.asdict(each) for each in verdicts(rows)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def write_svg(path: Path, rows: Sequence[Row]) -> None:
    """A bar for each contender of each row: the median, with the range."""
    # Not loaded, nor needed, without this option.
    import matplotlib
    from matplotlib.figure import Figure

    sizes = [len(row.values) + 2 for row in rows]
    figure = Figure(figsize=(9, 0.32 * sum(sizes)), layout="constrained")
    axes = figure.subplots(len(rows), height_ratios=sizes, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows, strict=True):
        names = list(row.values)[::-1]
        medians = [row.median(name) for name in names]
        low = [m - min(row.values[n]) for m, n in zip(medians, names, strict=True)]
        high = [max(row.values[n]) - m for m, n in zip(medians, names, strict=True)]
        colours = ["#1f6f8b" if n.startswith("Flask-") else "#b8bfc4" for n in names]
        bars = axis.barh(names, medians, xerr=[low, high], color=colours)
        axis.bar_label(bars, [number(m) for m in medians], padding=4, fontsize=8)
        axis.set_title(f"{row.title}, {row.unit}", loc="left", fontsize=9, pad=16)
        axis.text(0, 1.02, row.conditions, fontsize=7, transform=axis.transAxes)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.15)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text, not its outlines
        figure.savefig(path, format="svg")
