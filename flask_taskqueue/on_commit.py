"""Holds jobs back until the database transaction they were called in is committed."""

from __future__ import annotations

import logging
import typing as t
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from . import producer
from .appstate import AppState
from .broker.wire import NewJob

if t.TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

logger: logging.Logger = logging.getLogger(__name__)

AnySession: t.TypeAlias = "Session | scoped_session[t.Any] | AsyncSession"
"""What a caller may give as ``session``."""

Call = tuple[AppState, NewJob]


@dataclass(slots=True)
class _Held:
    """Calls of one transaction or savepoint, in their order.

    :param committed: It ended well; a savepoint's parent may still be rolled back.
    """

    calls: list[Call] = field(default_factory=list)
    committed: bool = False


# Weak: a session thrown away with its transaction open takes its jobs along.
_held: weakref.WeakKeyDictionary[SessionTransaction, _Held] = (
    weakref.WeakKeyDictionary()
)


def transaction_of(
    state: AppState, session: AnySession | None
) -> SessionTransaction | None:
    """The innermost transaction or savepoint that a call belongs to.

    :param session: ``None`` is Flask-SQLAlchemy's ``db.session``.
    :return: ``None`` where the session has begun no transaction.
    :raises RuntimeError: There is no session, or it can only be rolled back.
    :raises TypeError: It is no session.
    """
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


def hold(transaction: SessionTransaction, state: AppState, new: NewJob) -> None:
    """Enqueue a prepared job when a transaction and all around it are committed."""
    from sqlalchemy import event

    # The same again changes nothing. Of this session alone: adding to a class's
    # listeners breaks a commit that is just calling them in another thread.
    session = transaction.session
    event.listen(session, "after_commit", _after_commit)
    event.listen(session, "after_rollback", _after_rollback)
    event.listen(session, "after_transaction_end", _after_end)
    _held.setdefault(transaction, _Held()).calls.append((state, new))


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
        _held.pop(transaction, None)


def _after_end(session: Session, transaction: SessionTransaction) -> None:
    """Send what a committed transaction held; a savepoint's goes to its parent.

    The last thing a commit does: an exception leaves the session as good as new.
    """
    held = _held.pop(transaction, None)
    if held is None:
        return
    parent = transaction.parent
    if not held.committed:
        if parent is None:
            _tell_dropped(held.calls)
    elif parent is None:
        _send(held.calls)
    else:
        _held.setdefault(parent, _Held()).calls.extend(held.calls)


def _tell_dropped(calls: Sequence[Call]) -> None:
    for _, new in calls:
        logger.warning(
            "Job %s of %s is dropped: its session was closed without a commit",
            new.id, new.fields["tq_task"], extra=_extra(new),
        )  # fmt: skip


def _send(calls: Sequence[Call]) -> None:
    errors: list[BaseException] = []
    try:
        for state, group in groupby(calls, itemgetter(0)):
            jobs = [new for _, new in group]
            if state.eager:
                errors += _run_here(state, jobs)
            else:
                producer.send_many(state, jobs)
    except BaseException as error:
        for _, new in calls:
            logger.error(
                "Job %s of %s may be lost: its transaction is committed, but"
                " enqueueing failed: %s",
                new.id, new.fields["tq_task"], error, extra=_extra(new),
            )  # fmt: skip
        raise
    if errors:
        raise errors[0]


def _run_here(state: AppState, jobs: Sequence[NewJob]) -> list[BaseException]:
    """Run all, as the commit they follow is done; what is to be raised then."""
    # The worker's code is loaded by those who run it only.
    from . import eager

    ended = [eager.run(state, new) for new in jobs]
    propagated = ended if state.eager_propagates else []
    return [error for error in propagated if error is not None]


def _extra(new: NewJob) -> dict[str, t.Any]:
    task = new.fields["tq_task"]
    return {"job_id": new.id, "task": task, "queue": new.queue}
