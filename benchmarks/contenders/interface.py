"""What every contender can do."""

from __future__ import annotations

import abc
import contextlib
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a worker is started.

    :param slots: Processes, or threads, that run jobs.
    :param log: ``"warning"``, or ``"info"``: a line or two for each job, to a file.
    :param queues: How many it serves, where it can serve several.
    """

    slots: int = 1
    log: str = "warning"
    queues: int = 1

    def names(self, last: str) -> str:
        """The queues by name, the one that is used last."""
        return ",".join([*(f"q{n}" for n in range(1, self.queues)), last])


class Contender(abc.ABC):
    """A library whose jobs call :func:`benchmarks.tasks.add`."""

    jobs: t.ClassVar[int]
    """Jobs for one process of its worker: a second or two of work."""

    environment: t.ClassVar[Mapping[str, str]] = {}
    """More environment variables of its worker."""

    def opened(self) -> contextlib.AbstractContextManager[object]:
        """In which it enqueues and reads results."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def call(self, number: int) -> t.Any:
        """Enqueue ``add(number, 1)``.

        :return: The job's handle.
        """

    def call_many(self, numbers: Iterable[int]) -> list[t.Any]:
        """Enqueue many, in the fastest way it offers."""
        return [self.call(number) for number in numbers]

    @abc.abstractmethod
    def command(self, how: How) -> list[str]:
        """Command line of its worker."""

    @abc.abstractmethod
    def waiting(self, client: t.Any) -> int:
        """Jobs in the queue."""

    @abc.abstractmethod
    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        """How many of the jobs have their result stored, by a single command."""

    @abc.abstractmethod
    def value(self, handle: t.Any) -> t.Any:
        """Result of a job that has ended."""

    def wait(self, handle: t.Any) -> t.Any:
        """Wait for a job as it is meant to be done; its result."""
        raise NotImplementedError
