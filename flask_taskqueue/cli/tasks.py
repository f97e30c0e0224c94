"""``flask tasks``: jobs, queues and code, for people and their scripts."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from . import calling, code, jobs, migration, queues
from .printing import Group


@click.group("tasks", cls=Group)
@with_appcontext
def group() -> None:
    """See and change jobs and queues.

    Exit codes: 0 done, 1 what was asked about failed, 2 wrong usage, 69 Redis
    cannot be reached, or refuses.
    """


for _command in (
    *(jobs.list_jobs, jobs.show, jobs.wait, jobs.revoke, jobs.requeue),
    calling.call,
    *(queues.queues, queues.pause, queues.resume, queues.purge),
    *(code.registered, migration.migrate_config),
):
    group.add_command(_command)
