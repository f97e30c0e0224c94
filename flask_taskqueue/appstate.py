"""What one app and one TaskQueue share, and how it is found from a context."""

from __future__ import annotations

import logging
import os
import sys
import typing as t
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask, current_app

from . import missing_url
from .broker import embedded
from .broker.connection import Broker
from .broker.wire import NewJob
from .config import Config, read_flag
from .errors import ConfigError
from .options import TaskOptions
from .signing import Signer

if t.TYPE_CHECKING:
    from .beat.declared import Declared
    from .jobinfo import JobInfo

logger: logging.Logger = logging.getLogger(__name__)

EAGER_KEPT = 1000
"""Eager results that can still be asked for."""


class Runnable(t.Protocol):
    """A task, as what runs it sees it."""

    name: str
    options: TaskOptions

    def check_args(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> None:
        """Return if a call with these arguments fits the signature.

        :raises TypeError: It does not.
        """

    def invoke(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> t.Any:
        """Call the task's function."""


class Optioned(t.Protocol):
    """What has the options of a task."""

    options: TaskOptions


@dataclass(frozen=True, slots=True)
class Carrier:
    """A value that travels with jobs, and how it gets there and back.

    :param capture: Gives a JSON value when a job is enqueued; ``None`` carries
        nothing.
    :param restore: Takes that value, gives a context manager around the job.
    """

    capture: Callable[[], t.Any]
    restore: Callable[[t.Any], AbstractContextManager[t.Any]]


Permission = bool | set[str]
"""What an authoriser answers: refused if falsy; ``True`` is ``{"read"}``."""


@dataclass(slots=True)
class Provided:
    """What the app's author gave a TaskQueue in functions: all its apps share it.

    :param carriers: By name, in order of registration.
    :param authorize_status: Says what the current request may do with a job.
    :param entries: Entries that the code declares beside its tasks, by name.
    """

    carriers: dict[str, Carrier] = field(default_factory=dict)
    authorize_status: Callable[[JobInfo], Permission] | None = None
    entries: dict[str, Declared] = field(default_factory=dict)


class AppState:
    """One app's configuration, connections and eager results.

    :param tasks: The tasks known here, by name: a live view.
    :param provided: A live view, too.
    """

    def __init__(
        self,
        app: Flask,
        config: Config,
        tasks: Mapping[str, Runnable],
        provided: Provided,
    ) -> None:
        # A strong reference would keep the app alive for ever.
        self._app = weakref.ref(app)
        self.config = config
        self.tasks = tasks
        self.provided = provided
        self.eager_jobs: OrderedDict[str, dict[bytes, bytes]] = OrderedDict()
        self.outbox: Callable[[NewJob], int] | None = None
        """Takes jobs in the place of Redis, and answers as ``scripts.enqueue``."""
        self.completed: weakref.WeakKeyDictionary[
            Optioned, tuple[TaskOptions, bytes]
        ] = weakref.WeakKeyDictionary()
        self.plans: weakref.WeakKeyDictionary[Optioned, t.Any] = (
            weakref.WeakKeyDictionary()
        )
        """What the producer works out once for each task."""
        self._broker: Broker | None = None
        self._signer: Signer | None = None

    @property
    def app(self) -> Flask:
        """The app. :raises RuntimeError: It was thrown away."""
        app = self._app()
        if app is None:
            raise RuntimeError("the Flask app of this TaskQueue no longer exists")
        return app

    @property
    def broker(self) -> Broker:
        """Connections to Redis, made at first use.

        :raises ConfigError: ``TASKQUEUE_URL`` is missing in a web process.
        """
        if self._broker is None:
            self._broker = Broker(self.url)
        return self._broker

    @property
    def url(self) -> str:
        """Where Redis is; ``embedded://`` comes with its directory."""
        url = self.config.url
        if url is None:
            if not self._is_developing:
                raise ConfigError(missing_url.needed(os.environ))
            url = "embedded://"
        if url in ("embedded://", "embedded:"):
            directory: Path = embedded.default_directory(self.app.instance_path)
            return f"embedded://{directory}"
        return url

    def warn_without_url(self) -> None:
        """Warn of a ``TASKQUEUE_URL`` that a web server lacks, or that nobody reads."""
        if self.config.url is None:
            # Eager calls need none.
            relaxed = self._is_developing or self.config.eager
            text = missing_url.warning(os.environ, sys.modules, relaxed)
            if text:
                logger.warning("%s", text)

    @property
    def _is_developing(self) -> bool:
        return self.app.debug or self.app.testing or _from_flask_command()

    @property
    def signer(self) -> Signer | None:
        """Signs and verifies, or ``None`` where ``TASKQUEUE_SIGN`` is off.

        :raises ConfigError: Signing is on and there is no ``SECRET_KEY``.
        """
        if not self.config.sign:
            return None
        if self._signer is None:
            settings = self.app.config
            fallbacks = settings.get("SECRET_KEY_FALLBACKS") or ()
            if isinstance(fallbacks, (str, bytes)):
                # As an environment variable gives it: one key, not one a character.
                fallbacks = [fallbacks]
            self._signer = Signer([settings.get("SECRET_KEY"), *fallbacks])
        return self._signer

    @property
    def eager(self) -> bool:
        """Calls run in the caller: ``TASKQUEUE_EAGER``, read each time."""
        if self.outbox is not None:
            return False
        return read_flag(self.app.config, "TASKQUEUE_EAGER", self.config.eager)

    @property
    def eager_propagates(self) -> bool:
        """Eager calls raise what their task raises."""
        return read_flag(
            self.app.config, "TASKQUEUE_EAGER_PROPAGATES", self.config.eager_propagates
        )

    def options_of(self, task: Optioned) -> tuple[TaskOptions, bytes]:
        """A task's options with this app's defaults, and how they are stored."""
        known = self.completed.get(task)
        if known is None:
            options = task.options.completed(self.config)
            known = self.completed[task] = (options, options.stored())
        return known

    def keep_eager(self, job_id: str, fields: dict[bytes, bytes]) -> None:
        """Keep an eager job, and drop the oldest over 1,000."""
        self.eager_jobs[job_id] = fields
        self.eager_jobs.move_to_end(job_id)
        while len(self.eager_jobs) > EAGER_KEPT:
            self.eager_jobs.popitem(last=False)


def _from_flask_command() -> bool:
    # Set by the flask command (Flask 3.1, flask.cli.FlaskGroup.main).
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true"


def current_state() -> AppState:
    """The state of the app whose context is pushed.

    :raises RuntimeError: There is no context, or the app has no TaskQueue.
    """
    return state_of(current_app_object())


def current_app_object() -> Flask:
    """The app whose context is pushed, itself.

    :raises RuntimeError: There is no context.
    """
    try:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
    except RuntimeError:
        raise RuntimeError(
            "expected an app context: tasks and results are those of the current app."
            " Push one with 'with app.app_context():'"
        ) from None
    return t.cast(Flask, app)


def state_of(app: Flask) -> AppState:
    """An app's state, without a context of it.

    :raises RuntimeError: The app has no TaskQueue.
    """
    return t.cast(AppState, _extension_of(app).state_of(app))


def _extension_of(app: Flask) -> t.Any:
    extension = app.extensions.get("taskqueue")
    if extension is None:
        raise RuntimeError(
            f"the app {app.name!r} has no TaskQueue; call"
            " TaskQueue.init_app(app) when it is made"
        )
    return extension
