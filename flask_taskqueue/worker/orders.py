"""What a worker does when it is told something: by a signal, or over its channel."""

from __future__ import annotations

import logging
import signal
import typing as t
from functools import partial

from .. import commands
from . import stacks
from .kills import runs_job

if t.TYPE_CHECKING:
    from .supervisor import Supervisor

logger: logging.Logger = logging.getLogger(__name__)


def obey_signal(worker: Supervisor, number: signal.Signals) -> None:
    """Do what a signal stands for."""
    if number.name == "SIGTSTP":
        worker.be_quiet()
    elif number.name == "SIGHUP":
        worker.reload.request("SIGHUP")
    elif number.name == "SIGTTIN":
        stacks.ask(worker.staff.children)
    else:
        _stop(worker, number)


def _stop(worker: Supervisor, number: signal.Signals) -> None:
    again = worker.stopping and number == signal.SIGINT
    now = number.name == "SIGQUIT" or again
    if now:
        logger.warning("%s: stopping at once", number.name)
    elif not worker.stopping:
        logger.info("%s: finishing what runs, then stopping", number.name)
    worker.request_stop(0.0 if now else None)


def obey_command(worker: Supervisor, data: bytes) -> None:
    """Do what was sent by RQ's ``send_*_command``, or by one of ours."""
    command = commands.loads(data)
    if command is None:
        logger.warning("A command was not understood: %.200r", data)
    elif command.kind == commands.SHUTDOWN:
        logger.info("Told to stop: finishing what runs, then stopping")
        worker.request_stop()
    elif command.kind == commands.STOP_JOB:
        # After this it runs, or it will not.
        worker.overruns.recall(worker.staff.seats, command.job_id)
        worker.staff.kills.terminate(partial(runs_job, command.job_id))
    elif command.kind == commands.KILL_HORSE:
        worker.staff.kills.kill_running()
    elif command.kind == commands.QUIET:
        worker.be_quiet()
    elif command.kind == commands.PING:
        worker.client.publish(command.answer_to, worker.options.name)
