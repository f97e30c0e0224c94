"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from . import report
from .bench import Bench
from .ledger import Ledger
from .measures import BY_NAME, USUAL
from .measuring import Row
from .processes import Refused
from .serving import ENVIRONMENT, PLACEMENTS, Server
from .targets import verdicts

QUICK_ROUNDS, QUICK_SCALE = 3, 0.2
MEASURES = USUAL | BY_NAME


def _chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    if value is None:
        return list(USUAL)
    names = value.split(",")
    for name in names:
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            raise click.BadParameter(f"there is no {name!r}: choose from {known}")
    return names


@click.command(
    epilog=f"Measures: {', '.join(USUAL)}. By name only: {', '.join(BY_NAME)}."
)
@click.option("--only", callback=_chosen, metavar="NAME,...", help="These measures.")
@click.option("--rounds", type=click.IntRange(1), help="Of each.  [default: 5]")
@click.option(
    "--scale", type=float, help="Factor for the number of jobs.  [default: 1]"
)
@click.option("--quick", is_flag=True, help="3 rounds of a fifth of the jobs: rough.")
@click.option(
    "--placement",
    type=click.Choice(list(PLACEMENTS)),
    default="unpinned",
    show_default=True,
    help="Of the server and the workers, where a measure has none of its own.",
)
@click.option("--tcp", is_flag=True, help="By TCP on loopback, not by a Unix socket.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write it.")
@click.option("--svg", type=click.Path(path_type=Path), help="Plot it; matplotlib.")
def main(
    only: list[str],
    rounds: int | None,
    scale: float | None,
    quick: bool,
    placement: str,
    tcp: bool,
    json_path: Path | None,
    svg: Path | None,
) -> None:
    """Measure Flask-TaskQueue beside its peers, and hold it against its targets.

    Peers that are not installed are left out: pip install -e ".[bench]". Exit code 1
    where a target was measured and not reached, or a measure failed.
    """
    with tempfile.TemporaryDirectory(prefix="ftq-") as name:
        folder = Path(name)
        with Server(folder / "server", tcp=tcp) as server:
            os.environ[ENVIRONMENT] = os.environ["FLASK_TASKQUEUE_URL"] = server.url
            bench = Bench(
                folder=folder,
                server=server,
                ledger=Ledger.make(folder / "ledger"),
                rounds=rounds or (QUICK_ROUNDS if quick else 5),
                scale=scale or (QUICK_SCALE if quick else 1.0),
                placement=placement,
            )
            about = report.about(bench)
            click.echo(report.line(about))
            rows, failures = _run(bench, only)
    if json_path is not None:
        report.write_json(json_path, rows, {**about, "failures": failures})
    if svg is not None:
        report.write_svg(svg, rows)
    short = any(each.word == "short" for each in verdicts(rows))
    sys.exit(bool(failures) or short)


def _run(bench: Bench, names: list[str]) -> tuple[list[Row], dict[str, str]]:
    """Measure and print; the rows, and what failed with its reason."""
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            found = MEASURES[name](bench)
        except Refused as refusal:
            click.echo(f"\n{name} skipped: {refusal}")
            continue
        except Exception as error:  # noqa: BLE001 - peers raise any; the rest counts
            failures[name] = f"{type(error).__name__}: {error}"
            click.echo(f"\n{name} FAILED: {failures[name]}")
            continue
        for row in found:
            report.show(row)
        rows += found
    return rows, failures


if __name__ == "__main__":
    main()
