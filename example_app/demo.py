"""``flask demo``: all processes together; ``--check`` tries them."""

import io
import os
import signal
import sys
import time
from pathlib import Path
from shlex import quote
from socket import create_server

import click
from flask import Blueprint, current_app
from honcho.manager import Manager

ROWS = 200_000
WANTED = {"numbers": ROWS, "maximum": ROWS - 1, "mean": (ROWS - 1) / 2}  # of 0, 1, 2, …

blueprint = Blueprint("demo", __name__, cli_group=None)


@blueprint.cli.command()
@click.option("--check", is_flag=True, help="Try it out without a browser, then end.")
def demo(check: bool) -> None:
    """Run worker, beat, web server and a mail sink together until Ctrl-C."""
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with create_server(("127.0.0.1", 0)) as one, create_server(("127.0.0.1", 0)) as two:
        web, mail = one.getsockname()[1], two.getsockname()[1]
    mails = quote(str(Path(current_app.instance_path, "mails")))
    flask, keep = f"flask --app {__package__}", f"aiosmtpd.handlers.Mailbox {mails}"
    commands = {
        "mail": f"aiosmtpd -n -l 127.0.0.1:{mail} -c {keep}",
        "worker": f"{flask} worker",
        "beat": f"{flask} beat",
        "web": f"{flask} run --port={web} --no-reload",
    }
    if check:
        commands["check"] = f"{flask} check"
    environ = {**os.environ, "FLASK_MAIL_PORT": f"{mail}", "PYTHONUNBUFFERED": "1"}
    manager = Manager()
    for name, words in commands.items():
        command = f"exec {quote(sys.executable)} -m {words}"
        manager.add_process(name, command, env=environ, cwd=Path(__file__).parents[1])
    click.echo(f"Open http://127.0.0.1:{web} in a browser. Ctrl-C stops.")
    manager.loop()
    sys.exit(manager.returncode)


@blueprint.cli.command(hidden=True)
def check() -> None:
    """Have a sample summarized, compare the report, find its mail and a heartbeat."""
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
    mails = Path(current_app.instance_path, "mails").glob("new/*")
    if not any(report in mail.read_text() for mail in mails):
        raise click.ClickException("no mail has the link to the report")
    before = client.get("/").text
    schedules = current_app.extensions["taskqueue"].schedules
    schedules.add("check", "example_app.tasks.heartbeat", 1, replace=True)
    signal.alarm(20)  # ends the check: the page shows no new heartbeat
    while client.get("/").text == before:
        time.sleep(0.1)
    schedules.remove("check")
    click.echo(f"{ROWS} rows in {job['runtime']:.1f} s: right, and mailed; beat fires")
