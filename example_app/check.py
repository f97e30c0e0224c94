"""``flask check``: what the demo should do, tried without a browser."""

import io
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

ROWS = 200_000
WANTED = {"numbers": ROWS, "maximum": ROWS - 1, "mean": (ROWS - 1) / 2}
"""Of a column of 0, 1, 2 and so on."""


@click.command(hidden=True)
@click.argument("mails", type=click.Path(path_type=Path))
@with_appcontext
def check(mails: Path) -> None:
    """Have a sample summarized, compare the report, find the mail about it."""
    client = current_app.test_client()
    rows = "".join(f"{number},{number % 7}x\n" for number in range(ROWS))
    file = (io.BytesIO(f"number,text\n{rows}".encode()), "check.csv")
    form = {"file": file, "email": "you@example.org"}
    report = client.post("/reports", data=form).headers["Location"]
    job = client.get(f"/tasks/{report.rpartition('/')[2]}?wait=20").json or {}
    column = job["result"]["columns"][0] if job.get("successful") else {}
    if column | WANTED != column or "<svg" not in client.get(report).text:
        raise click.ClickException(f"expected {WANTED} and a chart, found {job}")
    client.get(f"/tasks/{job['children'][0]}?wait=20")
    if not any(report in mail.read_text() for mail in mails.glob("new/*")):
        raise click.ClickException("no mail has the link to the report")
    click.echo(f"{ROWS} rows in {job['runtime']:.1f} s: right, and mailed")
