"""``flask demo``: worker, web server and mail sink together; ``--check`` tries them."""

import os
import signal
import sys
from pathlib import Path
from shlex import quote
from socket import create_server

import click
from flask import current_app
from flask.cli import with_appcontext
from honcho.manager import Manager


@click.command()
@click.option("--check", is_flag=True, help="Try it out without a browser, then end.")
@with_appcontext
def demo(check: bool) -> None:
    """Run a worker, the web app and a mail sink together until Ctrl-C."""
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with create_server(("127.0.0.1", 0)) as one, create_server(("127.0.0.1", 0)) as two:
        web, mail = one.getsockname()[1], two.getsockname()[1]
    mails = quote(str(Path(current_app.instance_path, "mails")))
    flask, keep = f"flask --app {__package__}", f"aiosmtpd.handlers.Mailbox {mails}"
    commands = {
        "mail": f"aiosmtpd -n -l 127.0.0.1:{mail} -c {keep}",
        "worker": f"{flask} worker",
        "web": f"{flask} run --port={web} --no-reload",
    }
    if check:
        commands["check"] = f"{flask} check {mails}"
    environ = {**os.environ, "FLASK_MAIL_PORT": f"{mail}", "PYTHONUNBUFFERED": "1"}
    manager = Manager()
    for name, words in commands.items():
        command = f"exec {quote(sys.executable)} -m {words}"
        manager.add_process(name, command, env=environ, cwd=Path(__file__).parents[1])
    click.echo(f"Open http://127.0.0.1:{web} in a browser. Ctrl-C stops.")
    manager.loop()
    sys.exit(manager.returncode)
