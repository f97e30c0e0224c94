"""A call to be made later: ``add.s(1, 2)``."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from .options import TaskOptions


class Target(t.Protocol):
    """What a signature calls: a task, or a name somebody can send."""

    name: str
    options: TaskOptions

    @property
    def apply_async(self) -> t.Callable[..., t.Any]:
        """Enqueues a call: ``(args, kwargs, **options)``."""

    @property
    def apply_async_on_commit(self) -> t.Callable[..., t.Any]:
        """Enqueues a call when a session is committed."""

    @property
    def apply(self) -> t.Callable[..., t.Any]:
        """Runs a call here."""


class Signature:
    """A task with some of its arguments and options.

    As a ``link`` it is called with its parent's result before its own arguments;
    an immutable one (``si``) with its own arguments alone.

    :param target: What is called.
    :param options: Options of ``apply_async``, checked at once.
    :raises TypeError: An option is unknown, or of the wrong type.
    :raises ValueError: An option is out of range.
    """

    __slots__ = ("args", "immutable", "kwargs", "options", "target")

    def __init__(
        self,
        target: Target,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        options: Mapping[str, t.Any] | None = None,
        *,
        immutable: bool = False,
    ) -> None:
        self.target: Target = target
        self.args: tuple[t.Any, ...] = tuple(args or ())
        self.kwargs: dict[str, t.Any] = dict(kwargs or {})
        self.options: dict[str, t.Any] = dict(options or {})
        self.immutable: bool = immutable
        target.options.called(**t.cast(t.Any, self.options))

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.target.name

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self.args]
        parts += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Signature):
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("task", "args", "kwargs", "options", "immutable")
        )

    def clone(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Any,
    ) -> Signature:
        """A copy with arguments put before, and keywords and options added."""
        if self.immutable:
            args, kwargs = (), {}
        return Signature(
            self.target,
            (*(args or ()), *self.args),
            {**self.kwargs, **(kwargs or {})},
            {**self.options, **options},
            immutable=self.immutable,
        )

    def set(self, *, immutable: bool | None = None, **options: t.Any) -> Signature:
        """Change options of ``apply_async`` in place.

        :return: This signature.
        :raises TypeError: An option is unknown, or of the wrong type.
        :raises ValueError: An option is out of range.
        """
        self.target.options.called(**t.cast(t.Any, options))
        self.options.update(options)
        if immutable is not None:
            self.immutable = immutable
        return self

    def link(self, *callbacks: Signature) -> Signature:
        """Call these, too, when the task succeeds.

        :return: This signature.
        """
        return self._add("link", callbacks)

    def link_error(self, *errbacks: Signature) -> Signature:
        """Call these, too, when the task fails for good.

        :return: This signature.
        """
        return self._add("link_error", errbacks)

    on_error = link_error

    def _add(self, option: str, more: tuple[Signature, ...]) -> Signature:
        had = self.options.get(option) or ()
        had = tuple(had) if isinstance(had, (list, tuple)) else (had,)
        self.options[option] = (*had, *(sig for sig in more if sig not in had))
        return self

    def delay(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Enqueue it, these arguments before its own."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Any,
    ) -> t.Any:
        """Enqueue it, these arguments before its own, these options over its own."""
        call = self.clone(args, kwargs, **options)
        return self.target.apply_async(call.args, call.kwargs, **call.options)

    def delay_on_commit(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Enqueue it on commit, these arguments before its own."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        session: t.Any = None,
        **options: t.Any,
    ) -> t.Any:
        """Enqueue it after the outermost commit of a session."""
        call = self.clone(args, kwargs, **options)
        return self.target.apply_async_on_commit(
            call.args, call.kwargs, session=session, **call.options
        )

    def apply(
        self,
        args: Sequence[t.Any] | None = None,
        kwargs: Mapping[str, t.Any] | None = None,
        **options: t.Any,
    ) -> t.Any:
        """Run it here."""
        call = self.clone(args, kwargs, **options)
        return self.target.apply(call.args, call.kwargs, **call.options)

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """Call the task's function here, as a plain call."""
        call = self.clone(args, kwargs)
        return t.cast(t.Callable[..., t.Any], self.target)(*call.args, **call.kwargs)
