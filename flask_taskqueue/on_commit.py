"""Holds jobs back until the database transaction they were called in is committed."""

from __future__ import annotations

import logging
import typing as t
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .appstate import AppState
from .dispatch import Call, dispatch_all, gathered_by

if t.TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

logger: logging.Logger = logging.getLogger(__name__)

AnySession: t.TypeAlias = "Session | scoped_session[t.Any] | AsyncSession"
"""What a caller may give as ``session``."""


@dataclass(slots=True)
class _Held:
    """Calls of one transaction or savepoint, in their order.

    :param thrown_away: Runs when the transaction is garbage before it has ended.
    :param committed: It ended well; a savepoint's parent may still be rolled back.
    """

    calls: list[Call]
    thrown_away: weakref.finalize[..., SessionTransaction]
    committed: bool = False


# Weak: a session thrown away with its transaction open takes its jobs along.
_held: weakref.WeakKeyDictionary[SessionTransaction, _Held] = (
    weakref.WeakKeyDictionary()
)


@contextmanager
def holding(state: AppState, session: AnySession | None) -> Iterator[None]:
    """Hold back the calls made inside until a session's outermost commit, where it has
    begun a transaction.

    :param session: ``None`` is Flask-SQLAlchemy's ``db.session``.
    :raises ConfigError: ``TASKQUEUE_URL`` is missing in a web process.
    :raises RuntimeError: There is no session, or it can only be rolled back.
    :raises TypeError: It is no session.
    """
    transaction = _transaction_of(state, session)
    if transaction is None:
        yield
        return
    if not state.eager and state.outbox is None:
        _ = state.broker  # Opens nothing. What is wrong is told before the commit.
    with gathered_by(lambda call: _hold(transaction, call)):
        yield


def _transaction_of(
    state: AppState, session: AnySession | None
) -> SessionTransaction | None:
    """The innermost transaction or savepoint that a call belongs to."""
    found = _session_of(state, session)
    if not found.is_active:
        # SQLAlchemy refuses every statement then, with errors of its own.
        raise RuntimeError(
            "expected a session with a transaction that goes on, got one that was"
            " rolled back by an error, is prepared or is just committed; call"
            " session.rollback() after an error"
        )
    return _innermost(found)


def _session_of(state: AppState, session: AnySession | None) -> Session:
    if session is None:
        database = state.app.extensions.get("sqlalchemy")
        session = getattr(database, "session", None)
    if session is None:
        raise RuntimeError(
            f"the app {state.app.name!r} has no Flask-SQLAlchemy, whose db.session"
            " says when a commit is done: install Flask-SQLAlchemy and call"
            " db.init_app(app), or pass a SQLAlchemy session:"
            " apply_async_on_commit(args, kwargs, session=session)"
        )
    from sqlalchemy.orm import Session, scoped_session

    found: object = session() if isinstance(session, scoped_session) else session
    found = getattr(found, "sync_session", found)  # an AsyncSession's
    if not isinstance(found, Session):
        raise TypeError(
            "expected 'session' to be a SQLAlchemy Session, scoped_session or"
            f" AsyncSession, got {session!r}"
        )
    return found


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def _hold(transaction: SessionTransaction, call: Call) -> None:
    """Enqueue a prepared job when a transaction and all around it are committed."""
    from sqlalchemy import event

    # The same again changes nothing. Of this session alone: adding to a class's
    # listeners breaks a commit that is just calling them in another thread.
    session = transaction.session
    event.listen(session, "after_commit", _after_commit)
    event.listen(session, "after_rollback", _after_rollback)
    event.listen(session, "after_transaction_end", _after_end)
    _held_by(transaction).append(call)


def _held_by(transaction: SessionTransaction) -> list[Call]:
    if transaction not in _held:
        calls: list[Call] = []
        thrown_away = weakref.finalize(transaction, _tell_dropped, calls)
        _held[transaction] = _Held(calls, thrown_away)
    return _held[transaction].calls


def _released(transaction: SessionTransaction) -> _Held | None:
    held = _held.pop(transaction, None)
    if held is not None:
        held.thrown_away.detach()
    return held


def _after_commit(session: Session) -> None:
    """Note that a transaction ended well, or a savepoint.

    Nothing is sent here: an exception would leave the session half closed.
    """
    transaction = _innermost(session)
    if transaction is not None and transaction in _held:
        _held[transaction].committed = True


def _after_rollback(session: Session) -> None:
    """Drop what was called since the transaction began, or the savepoint."""
    transaction = _innermost(session)
    if transaction is not None:
        _released(transaction)


def _after_end(session: Session, transaction: SessionTransaction) -> None:
    """Send what a committed transaction held; a savepoint's goes to its parent.

    The last thing a commit does: an exception leaves the session as good as new.
    """
    held = _released(transaction)
    if held is None:
        return
    parent = transaction.parent
    if not held.committed:
        if parent is None:
            _tell_dropped(held.calls)
    elif parent is None:
        _send(held.calls)
    else:
        _held_by(parent).extend(held.calls)


def _tell_dropped(calls: Sequence[Call]) -> None:
    for call in calls:
        logger.warning(
            "Job %s of %s is dropped: its session was closed, or thrown away, without"
            " a commit",
            call.new.id, call.new.fields["tq_task"], extra=_extra(call),
        )  # fmt: skip


def _send(calls: Sequence[Call]) -> None:
    try:
        errors = dispatch_all(calls)
    except BaseException as error:
        for call in calls:
            logger.error(
                "Job %s of %s may be lost: its transaction is committed, but"
                " enqueueing failed: %s",
                call.new.id, call.new.fields["tq_task"], error, extra=_extra(call),
            )  # fmt: skip
        raise
    if errors:
        raise errors[0]


def _extra(call: Call) -> dict[str, t.Any]:
    new = call.new
    return {"job_id": new.id, "task": new.fields["tq_task"], "queue": new.queue}
