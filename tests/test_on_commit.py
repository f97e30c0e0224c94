"""Jobs that wait for a commit: what makes them, what drops them, and in what order."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import typing as t
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from flask_taskqueue import AsyncResult, TaskQueue
from flask_taskqueue.errors import BrokerUnavailable, JobNotFound, PayloadTooLarge

from .postgres import Postgres
from .running import InProcess
from .servers import Server

NOWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens there."""


class Shop(InProcess):
    """An app with two databases and a task, its context pushed by the fixture.

    :param folder: Where the databases are.
    """

    def __init__(
        self, folder: Path, url: str, client: redis.Redis, **config: object
    ) -> None:
        super().__init__(
            __name__, url, client,
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'shop.db'}",
            SQLALCHEMY_BINDS={"log": f"sqlite:///{folder / 'log.db'}"},
            **config,
        )  # fmt: skip
        self.db = db = SQLAlchemy(self.app)

        class Order(db.Model):
            name: sa_orm.Mapped[str] = sa_orm.mapped_column(primary_key=True)
            parent: sa_orm.Mapped[str | None] = sa_orm.mapped_column(
                sa.ForeignKey("order.name", deferrable=True, initially="DEFERRED")
            )

        class Line(db.Model):
            __bind_key__ = "log"
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(primary_key=True)

        self.Order, self.Line = Order, Line
        self.seen: list[object] = []
        self.pack = self.tq.task(name="pack")(self._pack)
        self.fail = self.tq.task(name="fail")(self._fail)
        with self.app.app_context():
            sa.event.listen(db.engine, "connect", _check_foreign_keys)
            db.create_all()

    def _pack(self, name: str) -> list[str]:
        """The orders a job of this name sees."""
        found = list(self.db.session.scalars(sa.select(self.Order.name)))
        self.seen.append((name, found, id(self.db.session())))
        return found

    def _fail(self, name: str) -> t.NoReturn:
        self.seen.append(name)
        raise LookupError(name)

    def order(self, name: str, parent: str | None = None) -> None:
        """Add a row to the session."""
        self.db.session.add(self.Order(name=name, parent=parent))

    @property
    def stored(self) -> list[str]:
        """Names of the orders, as another connection sees them."""
        with self.db.engine.connect() as connection:
            return list(connection.scalars(sa.select(self.Order.name).order_by("name")))

    @property
    def queued(self) -> list[str]:
        """Ids of the jobs that wait, in order."""
        return [raw.decode() for raw in self.client.lrange("rq:queue:default", 0, -1)]


def _check_foreign_keys(connection: t.Any, record: object) -> None:
    connection.execute("PRAGMA foreign_keys = on")


@contextmanager
def opened(shop: Shop) -> Iterator[Shop]:
    """Push the shop's context, and close its databases at the end."""
    with shop.app.app_context():
        yield shop
        shop.db.session.remove()
        for engine in shop.db.engines.values():
            engine.dispose()


@pytest.fixture
def shop(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[Shop]:
    with opened(Shop(tmp_path, redis_url, client)) as shop:
        yield shop


@pytest.fixture
def eager(tmp_path: Path, client: redis.Redis) -> Iterator[Shop]:
    """A shop whose jobs run in the caller, without Redis."""
    with opened(Shop(tmp_path, NOWHERE, client, TASKQUEUE_EAGER=True)) as shop:
        yield shop


def test_a_job_is_there_after_the_commit_and_not_before(shop: Shop):
    shop.order("a")
    result = shop.pack.delay_on_commit("a")
    assert (result.state, result.exists(), shop.queued) == ("UNKNOWN", False, [])
    with pytest.raises(JobNotFound):
        result.get()
    shop.db.session.commit()
    assert (result.state, shop.queued) == ("PENDING", [result.id])
    shop.run_all()
    assert result.get() == ["a"]


def test_options_count_from_the_commit(shop: Shop, client: redis.Redis):
    shop.order("a")
    result = shop.pack.apply_async_on_commit(
        ("a",), task_id="mine", countdown=100, queue="packing"
    )
    seconds, microseconds = client.time()
    shop.db.session.commit()
    assert (result.id, result.queue) == ("mine", "packing")
    due = client.zscore("rq:scheduled:packing", "mine")
    assert due is not None
    assert due >= seconds + microseconds / 1e6 + 100


def _roll_back(shop: Shop) -> None:
    shop.db.session.rollback()


def _close(shop: Shop) -> None:
    shop.db.session.remove()


def _fail_to_flush(shop: Shop) -> None:
    shop.order("taken")
    with pytest.raises(IntegrityError, match="UNIQUE"):
        shop.db.session.commit()
    shop.db.session.rollback()


def _fail_to_commit(shop: Shop) -> None:
    shop.order("c", parent="missing")
    shop.db.session.flush()
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        shop.db.session.commit()
    shop.db.session.rollback()


@pytest.mark.parametrize("end", [_roll_back, _close, _fail_to_flush, _fail_to_commit])
def test_a_job_is_dropped_for_ever_where_the_transaction_failed(shop: Shop, end):
    shop.order("taken")
    shop.db.session.commit()
    shop.db.session.begin()
    result = shop.pack.delay_on_commit("a")
    end(shop)
    assert not result.exists()
    shop.order("b")
    shop.db.session.commit()
    assert (shop.queued, shop.stored) == ([], ["b", "taken"])


def test_a_job_is_enqueued_at_once_where_no_transaction_has_begun(shop: Shop):
    first = shop.pack.delay_on_commit("a")
    assert shop.queued == [first.id]
    shop.order("b")
    shop.db.session.commit()
    second = shop.pack.delay_on_commit("b")
    assert shop.queued == [first.id, second.id]
    again = shop.pack.apply_async_on_commit(("a",), task_id=first.id)
    assert (again.created, first.created) == (False, True)


def _add(shop: Shop, order: t.Any) -> None:
    shop.order("b")


def _query(shop: Shop, order: t.Any) -> None:
    shop.db.session.execute(sa.select(shop.Order))


def _change(shop: Shop, order: t.Any) -> None:
    order.parent = "a"


def _read_what_the_commit_expired(shop: Shop, order: t.Any) -> None:
    assert order.name == "a"


@pytest.mark.parametrize(
    "begin", [_add, _query, _change, _read_what_the_commit_expired]
)
def test_a_transaction_begins_by_itself(shop: Shop, begin):
    order = shop.Order(name="a")
    shop.db.session.add(order)
    shop.db.session.commit()
    begin(shop, order)
    result = shop.pack.delay_on_commit("a")
    assert shop.queued == []
    shop.db.session.commit()
    assert shop.queued == [result.id]


def test_a_second_commit_enqueues_nothing_again(shop: Shop, client: redis.Redis):
    shop.order("a")
    shop.pack.delay_on_commit("a")
    shop.db.session.commit()
    client.flushall()
    shop.order("b")
    shop.db.session.commit()
    with shop.db.session.begin():
        shop.order("c")
    assert shop.queued == []


def test_many_jobs_come_in_the_order_of_their_calls(shop: Shop):
    shop.order("a")
    called = [shop.pack.delay_on_commit(str(n)).id for n in range(700)]
    shop.db.session.commit()
    assert shop.queued == called


def test_a_savepoint_takes_its_jobs_along(shop: Shop):
    session, ids = shop.db.session, {}

    def call(name: str) -> None:
        ids[name] = shop.pack.delay_on_commit(name).id

    session.begin()
    call("before")
    with session.begin_nested():
        call("released")
        with session.begin_nested():
            call("released twice")
        dropped = session.begin_nested()
        call("rolled back inside")
        dropped.rollback()
    with session.begin_nested() as outer:
        call("rolled back outside")
        with session.begin_nested():
            call("released in vain")
        outer.rollback()
    call("after")
    assert shop.queued == []
    session.commit()
    kept = ("before", "released", "released twice", "after")
    assert shop.queued == [ids[name] for name in kept]


def test_a_released_savepoint_waits_for_the_outermost_commit(shop: Shop):
    with shop.db.session.begin_nested():
        shop.pack.delay_on_commit("a")
    assert shop.queued == []
    shop.db.session.rollback()
    assert shop.queued == []


def test_a_commit_inside_a_savepoint_commits_all(shop: Shop):
    shop.order("a")
    first = shop.pack.delay_on_commit("a")
    shop.db.session.begin_nested()
    second = shop.pack.delay_on_commit("b")
    shop.db.session.commit()
    assert shop.queued == [first.id, second.id]


@pytest.mark.parametrize("error", [None, KeyError])
def test_the_end_of_a_with_block_decides(shop: Shop, error: type[Exception] | None):
    try:
        with shop.db.session.begin():
            shop.order("a")
            shop.pack.delay_on_commit("a")
            if error:
                raise error
    except KeyError:
        pass
    assert len(shop.queued) == (0 if error else 1)


def test_several_databases_are_one_commit(eager: Shop):
    @eager.tq.task(name="look")
    def look() -> None:
        lines = list(eager.db.session.scalars(sa.select(eager.Line.text)))
        eager.seen.append((eager.stored, lines))

    eager.order("a")
    eager.db.session.add(eager.Line(text="ordered"))
    look.delay_on_commit()
    eager.db.session.commit()
    assert eager.seen == [(["a"], ["ordered"])]


def test_arguments_are_checked_and_encoded_at_the_call(shop: Shop):
    shop.order("a")
    with pytest.raises(TypeError):
        shop.pack.delay_on_commit("a", 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="quueue"):
        shop.pack.apply_async_on_commit(("a",), quueue="x")  # type: ignore[call-arg]
    with pytest.raises(PayloadTooLarge):
        shop.pack.delay_on_commit("a" * 2**21)
    names = ["a"]
    keep = shop.tq.task(name="keep")(lambda names: names)
    result = keep.delay_on_commit(names)
    names.append("b")
    shop.db.session.commit()
    assert shop.queued == [result.id]
    assert result.args == [["a"]]


def test_what_travels_is_that_of_the_call(shop: Shop):
    here = ["call"]
    shop.tq.carrier("place", capture=lambda: here[0], restore=_Noted(shop.seen))
    shop.order("a")
    shop.pack.delay_on_commit("a")
    here[0] = "commit"
    shop.db.session.commit()
    shop.run_all()
    assert shop.seen[0] == "call"


class _Noted:
    """The other half of a carrier: notes the value."""

    def __init__(self, seen: list[object]) -> None:
        self._seen = seen

    def __call__(self, value: object) -> _Noted:
        self._seen.append(value)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None: ...


def test_signatures_and_names_wait_too(shop: Shop):
    shop.order("a")
    results: list[AsyncResult[t.Any]] = [
        shop.pack.s().delay_on_commit("a"),
        shop.pack.s("b").apply_async_on_commit(queue="packing"),
        shop.tq.signature("elsewhere.pack", ("c",)).delay_on_commit(),
    ]
    assert not any(result.exists() for result in results)
    shop.db.session.commit()
    assert [result.queue for result in results] == ["default", "packing", "default"]
    assert [result.args for result in results] == [["a"], ["b"], ["c"]]
    later = shop.tq.signature("elsewhere.pack").apply_async_on_commit()
    assert later.exists()


@pytest.fixture
def plain(redis_url: str, client: redis.Redis) -> Iterator[InProcess]:
    """An app without Flask-SQLAlchemy."""
    site = InProcess(__name__, redis_url, client)
    site.tq.task(name="note")(_note)
    with site.app.app_context():
        yield site


def _note(text: str) -> str:
    return text


def _scoped(engine: sa.Engine) -> t.Any:
    return sa_orm.scoped_session(sa_orm.sessionmaker(engine))


@pytest.mark.parametrize("make", [sa_orm.Session, _scoped])
def test_any_session_can_be_given(plain: InProcess, client: redis.Redis, make):
    engine = sa.create_engine("sqlite://")
    session, note = make(engine), plain.tq.tasks["note"]
    session.execute(sa.text("SELECT 1"))
    note.apply_async_on_commit(("a",), session=session)
    session.rollback()
    session.execute(sa.text("SELECT 1"))
    result = note.apply_async_on_commit(("b",), session=session)
    assert client.llen("rq:queue:default") == 0
    session.commit()
    assert client.lrange("rq:queue:default", 0, -1) == [result.id.encode()]
    session.close()
    engine.dispose()


def test_an_asyncio_session_can_be_given(plain: InProcess, postgres: Postgres):
    note = plain.tq.tasks["note"]

    async def work() -> tuple[bool, bool, bool]:
        engine = create_async_engine(postgres.new_database())
        async with AsyncSession(engine) as session:
            await session.execute(sa.text("SELECT 1"))
            dropped = note.apply_async_on_commit(("a",), session=session)
            await session.rollback()
            await session.execute(sa.text("SELECT 1"))
            kept = note.apply_async_on_commit(("b",), session=session)
            early = kept.exists()
            await session.commit()
        await engine.dispose()
        return dropped.exists(), early, kept.exists()

    assert asyncio.run(work()) == (False, False, True)


def test_a_two_phase_commit_counts(plain: InProcess, postgres: Postgres):
    engine = sa.create_engine(postgres.new_database())
    with sa_orm.Session(engine, twophase=True) as session:
        session.execute(sa.text("SELECT 1"))
        result = plain.tq.tasks["note"].apply_async_on_commit(("a",), session=session)
        session.prepare()
        assert not result.exists()
        with pytest.raises(RuntimeError, match="prepared"):
            plain.tq.tasks["note"].apply_async_on_commit(("b",), session=session)
        session.commit()
        assert result.exists()
    engine.dispose()


def test_the_session_counts_not_the_connection_around_it(plain: InProcess):
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection, connection.begin() as outer:
        session = sa_orm.Session(connection, join_transaction_mode="create_savepoint")
        session.execute(sa.text("SELECT 1"))
        result = plain.tq.tasks["note"].apply_async_on_commit(("a",), session=session)
        session.commit()
        assert result.exists()
        session.close()
        outer.rollback()
    engine.dispose()


def test_jobs_of_two_apps_follow_one_commit(
    plain: InProcess, redis_url: str, client: redis.Redis
):
    other = InProcess(__name__, f"{redis_url}?db=1", client)
    there = other.tq.task(name="there")(_note)
    session = sa_orm.Session(sa.create_engine("sqlite://"))
    with session.begin():
        first = plain.tq.tasks["note"].apply_async_on_commit(("a",), session=session)
        with other.app.app_context():
            second = there.apply_async_on_commit(("b",), session=session)
    assert (first.exists(), second.exists()) == (True, True)
    assert client.lrange("rq:queue:default", 0, -1) == [first.id.encode()]


@pytest.mark.parametrize(
    "given", [sa_orm.sessionmaker(), sa.create_engine("sqlite://"), "db"], ids=type
)
def test_what_is_no_session_is_refused(plain: InProcess, given: t.Any):
    with pytest.raises(TypeError, match="expected 'session' to be a SQLAlchemy"):
        plain.tq.tasks["note"].apply_async_on_commit(("a",), session=given)


def test_without_any_session_the_error_says_what_to_do(plain: InProcess):
    with pytest.raises(RuntimeError, match=r"install Flask-SQLAlchemy.*session=") as e:
        plain.tq.tasks["note"].delay_on_commit("a")
    assert __name__ in str(e.value)


def test_nothing_needs_sqlalchemy_until_it_is_used():
    code = """
import sys
sys.modules.update(sqlalchemy=None, flask_sqlalchemy=None)  # not installed
from flask import Flask
from flask_taskqueue import TaskQueue
app = Flask("bare")
tq = TaskQueue(app)
task = tq.task(name="add")(lambda x: x)
try:
    with app.app_context():
        task.delay_on_commit(1)
except RuntimeError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'bare' has no Flask-SQLAlchemy" in done.stdout


def test_a_session_that_failed_is_refused_until_it_is_rolled_back(shop: Shop):
    shop.order("a")
    shop.db.session.commit()
    shop.order("a")
    with pytest.raises(IntegrityError):
        shop.db.session.flush()
    with pytest.raises(RuntimeError, match="rollback"):
        shop.pack.delay_on_commit("a")
    shop.db.session.rollback()
    assert shop.pack.delay_on_commit("a").exists()


def test_a_listener_of_the_commit_cannot_wait_for_it(shop: Shop):
    refused: list[str] = []

    def late(session: object) -> None:
        with pytest.raises(RuntimeError, match="just committed") as told:
            shop.pack.delay_on_commit("a")
        refused.append(str(told.value))

    shop.order("a")
    sa.event.listen(shop.db.session(), "after_commit", late)
    shop.db.session.commit()
    assert len(refused) == 1


def test_each_thread_has_its_own_transaction(shop: Shop):
    both_called = threading.Barrier(2, timeout=20)
    ids = {}

    def work(end: str) -> None:
        with shop.app.app_context():
            shop.db.session.begin()
            ids[end] = shop.pack.delay_on_commit(end).id
            both_called.wait()
            getattr(shop.db.session, end)()

    threads = [threading.Thread(target=work, args=(e,)) for e in ("commit", "rollback")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.queued == [ids["commit"]]


def test_a_handle_learns_at_the_commit_whether_it_was_accepted(shop: Shop):
    shop.order("a")
    first, again = (
        shop.pack.apply_async_on_commit(("a",), task_id="one") for _ in range(2)
    )
    shop.db.session.commit()
    assert (first.created, again.created) == (True, False)


def test_nothing_is_kept_of_a_session_that_was_thrown_away(
    plain: InProcess, caplog: pytest.LogCaptureFixture
):
    engine = sa.create_engine("sqlite://")
    session = sa_orm.Session(engine)
    session.begin()
    result = plain.tq.tasks["note"].apply_async_on_commit(("a",), session=session)
    gone = weakref.ref(session), weakref.ref(session.get_transaction())
    del session
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert not result.exists()
    (record,) = caplog.records
    assert f"Job {result.id} of note is dropped" in record.getMessage()


def test_a_savepoint_thrown_away_with_its_session_is_told_once(
    plain: InProcess, caplog: pytest.LogCaptureFixture
):
    note = plain.tq.tasks["note"]
    session = sa_orm.Session(sa.create_engine("sqlite://"))
    ids = []
    for begin in (session.begin, session.begin_nested, session.begin_nested):
        begin()
        ids.append(note.apply_async_on_commit(("a",), session=session).id)
    session.get_nested_transaction().commit()  # type: ignore[union-attr]
    del session, begin
    gc.collect()
    assert sorted(vars(record)["job_id"] for record in caplog.records) == sorted(ids)


def test_a_close_without_a_commit_is_told(shop: Shop, caplog: pytest.LogCaptureFixture):
    shop.order("a")
    result = shop.pack.delay_on_commit("a")
    shop.db.session.remove()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"Job {result.id} of pack is dropped" in record.getMessage()
    assert vars(record)["job_id"] == result.id


def test_a_rollback_is_no_news(shop: Shop, caplog: pytest.LogCaptureFixture):
    shop.order("a")
    shop.pack.delay_on_commit("a")
    with shop.db.session.begin_nested() as inner:
        shop.pack.delay_on_commit("a")
        inner.rollback()
    shop.db.session.rollback()
    assert caplog.records == []


def _by_commit(shop: Shop, work: t.Callable[[], None]) -> None:
    work()
    shop.db.session.commit()


def _by_block(shop: Shop, work: t.Callable[[], None]) -> None:
    with shop.db.session.begin():
        work()


@pytest.mark.parametrize("commit", [_by_commit, _by_block])
def test_redis_away_after_the_commit_is_raised_from_it(
    tmp_path: Path,
    client: redis.Redis,
    own_server: Server,
    caplog: pytest.LogCaptureFixture,
    commit: t.Callable[[Shop, t.Callable[[], None]], None],
):
    with opened(Shop(tmp_path, own_server.url, client)) as shop:
        results: list[AsyncResult[t.Any]] = []

        def work() -> None:
            shop.order("a")
            results.extend(shop.pack.delay_on_commit(name) for name in "ab")

        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            commit(shop, work)
        assert shop.stored == ["a"]
        lost = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert [vars(record)["job_id"] for record in lost] == [r.id for r in results]
        assert f"Job {results[0].id} of pack may be lost" in lost[0].getMessage()
        shop.order("b")
        shop.db.session.commit()
        assert shop.stored == ["a", "b"]
        own_server.start()
        again = shop.pack.apply_async(("a",), task_id=results[0].id)
        assert (again.created, again.state) == (True, "PENDING")


def test_an_eager_job_runs_at_the_commit_in_a_session_of_its_own(eager: Shop):
    eager.order("a")
    result = eager.pack.delay_on_commit("a")
    assert (eager.seen, result.state) == ([], "UNKNOWN")
    view = eager.db.session()
    eager.db.session.commit()
    ((name, found, session),) = t.cast("list[t.Any]", eager.seen)
    assert (name, found, result.get()) == ("a", ["a"], ["a"])
    assert session != id(view)
    assert eager.db.session() is view


def test_an_eager_job_never_runs_after_a_rollback(eager: Shop):
    eager.order("a")
    result = eager.pack.delay_on_commit("a")
    eager.db.session.rollback()
    eager.order("b")
    eager.db.session.commit()
    assert (eager.seen, result.exists()) == ([], False)


@pytest.mark.parametrize("propagates", [True, False])
def test_eager_jobs_all_run_and_the_first_error_is_raised_if_asked_for(
    eager: Shop, propagates: bool
):
    eager.app.config["TASKQUEUE_EAGER_PROPAGATES"] = propagates
    eager.order("a")
    results = [eager.fail.delay_on_commit(name) for name in ("one", "two")]
    if propagates:
        with pytest.raises(LookupError, match="one"):
            eager.db.session.commit()
    else:
        eager.db.session.commit()
    assert (eager.seen, eager.stored) == (["one", "two"], ["a"])
    assert [result.state for result in results] == ["FAILURE", "FAILURE"]
    eager.order("b")
    eager.db.session.commit()
    assert eager.stored == ["a", "b"]


def test_an_eager_job_may_use_the_session_whose_commit_it_follows():
    app = Flask(__name__)
    app.config.update(TASKQUEUE_URL=NOWHERE, TASKQUEUE_EAGER=True)
    tq = TaskQueue(app)
    engine = sa.create_engine("sqlite://")
    shared = sa_orm.scoped_session(sa_orm.sessionmaker(engine))

    @tq.task(name="next")
    def following(left: int) -> int:
        shared.execute(sa.text("SELECT 1"))
        if left:
            following.apply_async_on_commit((left - 1,), session=shared)
        shared.commit()
        return left

    with app.app_context():
        shared.begin()
        result = following.apply_async_on_commit((2,), session=shared)
        shared.commit()
        assert result.get() == 2
        assert len(tq.state.eager_jobs) == 3
    shared.remove()
    engine.dispose()
