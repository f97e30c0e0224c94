"""Who is measured: one module each, which is the app its workers load, too."""

from __future__ import annotations

import importlib
import typing as t

from .interface import Contender

OURS = "Flask-TaskQueue"
ONE = "Flask-TaskQueue, one job per call"
THREADS = "Flask-TaskQueue, threads"
HUEY = "Huey"
CELERY = "Celery"
DRAMATIQ = "Dramatiq"
RQ = "RQ"
RQ_WORKER = "RQ Worker"
RQ_SIMPLE = "RQ SimpleWorker"

_MODULES = {
    OURS: ("ours", "Ours"),
    ONE: ("ours", "OnePerCall"),
    THREADS: ("ours", "Threads"),
    HUEY: ("huey", "Huey"),
    CELERY: ("celery", "Celery"),
    DRAMATIQ: ("dramatiq", "Dramatiq"),
    RQ: ("rq", "Rq"),
    RQ_WORKER: ("rq", "Rq"),
    RQ_SIMPLE: ("rq", "RqSimple"),
}


def missing(name: str) -> str:
    """Why a contender cannot be measured; ``""`` where it can."""
    try:
        load(name)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    return ""


def load(name: str) -> Contender:
    """One by its name in tables.

    Imported when asked for: a worker of one must not load the others, nor this
    process those that are not installed.
    """
    module, cls = _MODULES[name]
    found: type[Contender] = getattr(
        importlib.import_module(f"{__name__}.{module}"), cls
    )
    return found()


def our_app() -> t.Any:
    """The module of Flask-TaskQueue, for tasks that the others have no need of."""
    return importlib.import_module(f"{__name__}.ours")
