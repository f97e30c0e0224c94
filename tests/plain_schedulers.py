"""Plain rq-scheduler beside a beat: its set, its jobs, and what it is warned of."""

from __future__ import annotations

import typing as t

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import scripts
from flask_taskqueue.beat.ticking import Ticker

SET = "rq:scheduler:scheduled_jobs"

WARNINGS = [
    # What rq-scheduler calls in newer versions of Python and of crontab.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Version 0.22.0:FutureWarning"),
]


class JSONJob(Job):
    """A job whose arguments are JSON: how an app gives rq-scheduler a serializer."""

    @classmethod
    def create(cls, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return super().create(*args, **{**kwargs, "serializer": JSONSerializer})


def everything(client: t.Any) -> dict[bytes, bytes]:
    """All that is stored."""
    return {key: client.dump(key) for key in client.keys()}


def fire_due(state: AppState, client: t.Any) -> list[str]:
    """Fire what is due, as a beat does; the ids of the jobs made."""
    look = scripts.lead(client, state.app.name, "beat", lease=4, most=100)
    return Ticker(state, client, lambda: False).tick(look)
