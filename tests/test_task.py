"""What a decorated function is: its name, its registry, and how it is called."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import typing as t
from functools import partial
from pathlib import Path

import pytest
import redis
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import AsyncResult, Task, TaskQueue, current_task, shared_task
from flask_taskqueue.arguments import module_of
from flask_taskqueue.errors import TaskNotRegistered
from flask_taskqueue.registry import shared

from .processes import AppFolder


@pytest.fixture
def tq() -> TaskQueue:
    return TaskQueue()


@pytest.fixture
def shared_names() -> t.Iterator[None]:
    """Takes out what the test registers as shared tasks."""
    before = set(shared._own)
    yield
    for name in set(shared._own) - before:
        del shared._own[name]


def make_app(tq: TaskQueue, url: str, name: str = __name__, **config: object) -> Flask:
    app = Flask(name)
    app.config.update(TASKQUEUE_URL=url, **config)
    tq.init_app(app)
    return app


def function(module: str, qualname: str) -> t.Callable[[], None]:
    """A function that says it was defined there."""

    def made() -> None: ...

    made.__module__, made.__qualname__ = module, qualname
    made.__name__ = qualname.rpartition(".")[2]
    return made


def test_the_name_is_module_and_function(tq: TaskQueue):
    task = tq.task(function("shop.mails", "make.<locals>.send"))
    assert task.name == "shop.mails.send"
    assert dict(tq.tasks) == {**shared, "shop.mails.send": task}


def test_a_name_can_be_given(tq: TaskQueue):
    assert tq.task(name="mail")(function("a", "b")).name == "mail"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param(5, TypeError, id="number"),
        pytest.param(b"mail", TypeError, id="bytes"),
        pytest.param("", TypeError, id="empty"),
        pytest.param("n" * 256, ValueError, id="256-characters"),
        pytest.param(" mail", ValueError, id="space-before"),
        pytest.param("mail\n", ValueError, id="newline-after"),
    ],
)
def test_what_cannot_be_a_name_is_refused(
    tq: TaskQueue, name: t.Any, error: type[Exception]
):
    class Named(Task[[], None]):
        pass

    Named.name = name
    with pytest.raises(error, match="expected the name of a task to be .*, got"):
        tq.task(name=name)(function("a", "b"))
    if name != "":  # nothing said
        with pytest.raises(error, match="expected the name of a task to be .*, got"):
            Named()
    with pytest.raises(error, match="expected the name of a task to be .*, got"):
        tq.signature(name)
    assert dict(tq.tasks) == dict(shared)


def test_a_name_may_have_255_characters_and_spaces_inside(tq: TaskQueue):
    name = f"{'n' * 127} {'m' * 127}"
    assert tq.task(name=name)(function("a", "b")).name == name


def test_a_call_here_of_a_task_that_is_elsewhere_says_so(tq: TaskQueue):
    far = tq.signature("far.away", (1,))
    with pytest.raises(TaskNotRegistered, match="no task 'far.away' is registered"):
        far(2, k=3)
    with pytest.raises(TaskNotRegistered, match="no task 'far.away' is registered"):
        far.apply((2,), {"k": 3})


MAIN = """
from flask import Flask
from flask_taskqueue import TaskQueue, shared_task
{more}
tq = TaskQueue()
app = Flask(__name__)
tq.init_app(app)

@tq.task
def add(x, y):
    return x + y

@shared_task
def clean():
    pass

if __name__ == "__main__":
    import {module}  # the same file again, under its own name
    print(*sorted(tq.tasks))
"""


@pytest.mark.parametrize(
    ("path", "command", "names"),
    [
        pytest.param("app.py", ["app.py"], "app.add app.clean", id="file"),
        pytest.param(
            "shop/jobs.py", ["-m", "shop.jobs"], "shop.jobs.add shop.jobs.clean",
            id="module",
        ),
    ],
)  # fmt: skip
def test_a_program_and_the_flask_command_agree_on_names(
    tmp_path: Path, path: str, command: list[str], names: str
):
    module = path.removesuffix(".py").replace("/", ".")
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(MAIN.format(module=module, more=""))
    # As from a shell: a script's folder is where it imports from.
    env = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")}
    run = partial(
        subprocess.run,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    program = run([sys.executable, *command])
    shell = f"import {module} as m; print(*sorted(m.tq.tasks))"
    flask = run([sys.executable, "-c", f"import sys; sys.path.insert(0, ''); {shell}"])
    assert program.stdout.strip() == flask.stdout.strip() == names


def test_module_of_an_interactive_main_is_main(monkeypatch: pytest.MonkeyPatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.delattr(main, "__file__", raising=False)
    assert module_of(function("__main__", "f")) == "__main__"


def test_the_same_function_again_replaces(tq: TaskQueue):
    first = tq.task(function("shop", "create_app.<locals>.send"))
    second = tq.task(function("shop", "create_app.<locals>.send"))
    assert first is not second
    assert tq.tasks["shop.send"] is second


def test_another_function_under_a_taken_name_is_refused(tq: TaskQueue):
    first = tq.task(function("shop", "send"))
    with pytest.raises(ValueError, match=r"'shop.send' for shop.send and shop.A.send"):
        tq.task(function("shop", "A.send"))
    with pytest.raises(ValueError, match="unique, got 'shop.send'"):
        tq.task(name="shop.send")(function("other", "other"))
    assert tq.tasks["shop.send"] is first


def test_tasks_are_read_only(tq: TaskQueue):
    with pytest.raises(TypeError):
        tq.tasks["x"] = None  # type: ignore[index]


def test_own_tasks_come_before_shared_ones(tq: TaskQueue, shared_names: None):
    of_all = shared_task(function("lib", "clean"))
    assert tq.tasks["lib.clean"] is of_all
    own = tq.task(function("lib", "clean"))
    assert tq.tasks["lib.clean"] is own
    assert TaskQueue().tasks["lib.clean"] is of_all
    assert list(tq.tasks).count("lib.clean") == 1
    assert len(tq.tasks) == len(list(tq.tasks))


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param("add", id="name"),
        pytest.param(partial(max, 1), id="partial"),
        pytest.param(Task.from_function(module_of), id="task"),
    ],
)
def test_only_functions_are_made_tasks(tq: TaskQueue, thing: t.Any):
    with pytest.raises(TypeError, match="expected a function to make a task of"):
        tq.task(thing)


def test_bind_needs_a_first_parameter(tq: TaskQueue):
    with pytest.raises(TypeError, match=r"first parameter for the task \(bind=True\)"):
        tq.task(bind=True)(function("a", "b"))


def test_an_unknown_option_is_an_error_that_lists_the_known_ones(tq: TaskQueue):
    with pytest.raises(TypeError, match="'retires'; known are autoretry_for, ") as told:
        tq.task(retires=3)(function("a", "b"))  # type: ignore[call-overload]
    known = str(told.value).partition("known are ")[2].split(", ")
    assert {"name", "bind", "base", "queue"} <= set(known)
    assert "owner" not in known


def test_a_task_stays_callable(tq: TaskQueue):
    @tq.task(max_retries=None)
    def add(x: int, y: int = 1) -> int:
        """Adds."""
        return x + y

    assert (add(1, 2), add(x=1)) == (3, 2)
    assert (add.__doc__, add.__name__, add.__wrapped__(1)) == ("Adds.", "add", 2)  # type: ignore[attr-defined]
    assert repr(add) == f"<Task {__name__}.add>"


def test_bind_passes_the_task(tq: TaskQueue):
    @tq.task(bind=True)
    def who(self: t.Any, *args: int) -> tuple[object, ...]:
        assert not current_task
        request = self.request
        return self, request.called_directly, request.id, request.retries, args

    assert who(1, 2) == (who, True, None, 0, (1, 2))
    who.check_args((1, 2, 3), {})


def test_retry_in_a_plain_call_raises_what_happened(tq: TaskQueue):
    @tq.task(bind=True)
    def fail(self: t.Any, given: bool) -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            self.retry(exc=ValueError("given") if given else None)

    with pytest.raises(ValueError, match="given"):
        fail(True)
    with pytest.raises(KeyError, match="inner"):
        fail(False)


def test_what_needs_a_job_says_so_in_a_plain_call(tq: TaskQueue):
    task = tq.task(function("a", "b"))
    with pytest.raises(RuntimeError, match="for a running job"):
        task.update_state(state="X")


def test_current_task_is_falsy_outside_a_job():
    assert not current_task
    with pytest.raises(RuntimeError, match="no task is running here"):
        _ = current_task.request


def plain(x, y): ...
def optional(x, y=1): ...
def positional(x, y=1, /): ...
def rest(x, *more): ...
def keyword(x, *, flag): ...
def optional_keyword(x, *, flag=False): ...
def anything(*args, **kwargs): ...
def nothing(): ...


FITTING = [
    (plain, (1, 2), {}),
    (plain, (1,), {"y": 2}),
    (plain, (), {"x": 1, "y": 2}),
    (optional, (1,), {}),
    (optional, (1, 2), {}),
    (positional, (1, 2), {}),
    (rest, (1, 2, 3), {}),
    (keyword, (1,), {"flag": 1}),
    (optional_keyword, (1,), {}),
    (anything, (1, 2), {"a": 1}),
    (nothing, (), {}),
]
MISFITS = [
    (plain, (1,), {}),
    (plain, (1, 2, 3), {}),
    (plain, (1, 2), {"x": 1}),
    (plain, (1, 2), {"z": 1}),
    (optional, (), {}),
    (optional, (1, 2, 3), {}),
    (positional, (1,), {"y": 2}),
    (rest, (), {}),
    (keyword, (1,), {}),
    (keyword, (1, 2), {}),
    (optional_keyword, (1, 2), {}),
    (nothing, (1,), {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), FITTING)
def test_arguments_fit(function: t.Any, args: t.Any, kwargs: t.Any):
    Task.from_function(function).check_args(args, kwargs)


@pytest.mark.parametrize(("function", "args", "kwargs"), MISFITS)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_enqueued(
    client: redis.Redis, redis_url: str, tq: TaskQueue, function, args, kwargs
):
    task = tq.task(function)
    with make_app(tq, redis_url).app_context():
        with pytest.raises(TypeError, match=rf"test_task\.{task.__name__}\("):
            task.delay(*args, **kwargs)
        with pytest.raises(TypeError, match=rf"test_task\.{task.__name__}\("):
            task.apply_async(args, kwargs)
        if not kwargs:
            with pytest.raises(TypeError):
                task.delay_many([args])
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        pytest.param("ab", None, "args to be a list or tuple, got 'ab'", id="text"),
        pytest.param({1}, None, "args to be a list or tuple", id="set"),
        pytest.param((1,), ["y"], "kwargs to be a mapping", id="list-kwargs"),
        pytest.param((1, object()), None, "argument 1", id="object"),
        pytest.param((1,), {"y": {"a": [object()]}}, r"argument 'y'\['a'\]", id="deep"),
        pytest.param((1, 2), {}, "unknown|known option", id="option"),
    ],
)
def test_what_cannot_travel_is_refused_before_anything_is_enqueued(
    client: redis.Redis, redis_url: str, tq: TaskQueue, args, kwargs, match: str
):
    task = tq.task(plain)
    options = {"count_down": 1} if args == (1, 2) else {}
    with make_app(tq, redis_url).app_context():
        with pytest.raises(TypeError, match=match):
            task.apply_async(args, kwargs, **options)
    assert client.dbsize() == 0


def test_delay_many_checks_all_before_the_first_is_enqueued(
    client: redis.Redis, redis_url: str, tq: TaskQueue
):
    task = tq.task(plain)
    with make_app(tq, redis_url).app_context():
        with pytest.raises(TypeError, match="missing a required argument"):
            task.delay_many([(1, 2), (1,)])
        assert client.dbsize() == 0
        handles = task.delay_many([(n, n) for n in range(1200)], queue="many")
        assert client.llen("rq:queue:many") == 1200
        assert len({h.id for h in handles}) == 1200
        assert all(h.created for h in handles)
        assert handles[-1].args == [1199, 1199]
        assert task.delay_many([]) == []


def test_outside_a_context_it_says_what_to_do(
    redis_url: str, tq: TaskQueue, shared_names: None
):
    make_app(tq, redis_url)
    for task in (tq.task(function("a", "b")), shared_task(function("lib", "c"))):
        with pytest.raises(RuntimeError, match=r"with app\.app_context\(\)"):
            task.delay()
    with pytest.raises(RuntimeError, match=r"with app\.app_context\(\)"):
        _ = AsyncResult("x").state
    with pytest.raises(RuntimeError, match=r"with app\.app_context\(\)"):
        tq.send_task("a.b")


def test_in_an_app_it_does_not_serve_it_says_so(
    redis_url: str, tq: TaskQueue, shared_names: None
):
    task = tq.task(function("a", "b"))
    with Flask("stranger").app_context():
        with pytest.raises(RuntimeError, match="does not serve the app 'stranger'"):
            task.delay()
        with pytest.raises(RuntimeError, match="'stranger' has no TaskQueue"):
            shared_task(function("lib", "c")).delay()
    other = make_app(TaskQueue(), redis_url, "other")
    with other.app_context(), pytest.raises(RuntimeError, match="the app 'other'"):
        task.delay()


def test_two_task_queues_on_one_app_are_refused(redis_url: str, tq: TaskQueue):
    app = make_app(tq, redis_url, "shop")
    for again in (tq, TaskQueue()):
        with pytest.raises(RuntimeError, match="'shop' has a TaskQueue already"):
            again.init_app(app)
    with pytest.raises(RuntimeError, match="already"):
        TaskQueue(app)
    assert app.extensions["taskqueue"] is tq


def test_a_factory_called_twice_makes_two_apps(client: redis.Redis, redis_url: str):
    tq = TaskQueue()

    def create_app(queue: str) -> tuple[Flask, t.Any]:
        app = make_app(tq, redis_url, TASKQUEUE_DEFAULT_QUEUE=queue)

        @tq.task
        def who() -> str:
            return queue

        return app, who

    first, old = create_app("one")
    second, new = create_app("two")
    for app, task, queue in ((first, old, "one"), (second, new, "two")):
        with app.app_context():
            assert task.delay().queue == queue
    assert list(tq.tasks.values())[0] is new
    assert client.llen("rq:queue:one") == client.llen("rq:queue:two") == 1


def test_one_task_queue_serves_two_apps_with_their_own_databases(
    tmp_path: Path, redis_url: str
):
    """Each job finds the database of the app it runs in, by the worker's code."""
    tq, db = TaskQueue(), SQLAlchemy()

    class Row(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String(20))

    @tq.task
    def store() -> int:
        db.session.add(Row(text=current_app.name))
        db.session.commit()
        return db.session.query(Row).count()

    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / name}.db"
        app.config.update(TASKQUEUE_URL=redis_url, TASKQUEUE_EAGER=True)
        tq.init_app(app)
        db.init_app(app)
        apps.append(app)
        with app.app_context():
            db.create_all()
    one, two = apps
    with one.app_context():
        assert store.delay().get() == 1
        assert store.delay().get() == 2
        # The task's session is its own: this one has seen nothing yet.
        assert [row.text for row in db.session.query(Row)] == ["one", "one"]
    with two.app_context():
        assert store.delay().get() == 1
        assert [row.text for row in db.session.query(Row)] == ["two"]
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def test_defaults_are_merged_at_each_call_for_each_app(redis_url: str, tq: TaskQueue):
    task = tq.task(max_retries=None)(function("a", "b"))
    few = make_app(tq, redis_url, "few", TASKQUEUE_DEFAULT_RETRY_DELAY=1)
    many = make_app(tq, redis_url, "many", TASKQUEUE_DEFAULT_RETRY_DELAY=99)
    for app, delay in ((few, 1), (many, 99)):
        with app.app_context():
            assert (task.default_retry_delay, task.max_retries) == (delay, None)
            assert task.name == "a.b"
    plain = tq.task(function("a", "c"))
    with few.app_context():
        assert plain.max_retries == 3


def test_a_request_enqueues_without_an_app_context_of_its_own(
    redis_url: str, tq: TaskQueue, shared_names: None
):
    app = make_app(tq, redis_url)
    add = shared_task(plain)

    @app.get("/")
    def start() -> str:
        return add.delay(1, 2).id

    browser = app.test_client()
    job_id = browser.get("/").get_data(as_text=True)
    assert browser.get(f"/tasks/{job_id}").get_json()["state"] == "PENDING"


def test_two_apps_of_two_files_run_in_their_own_workers(tmp_path: Path, redis_url: str):
    """Names are the app's: a shared task runs in the app whose worker takes it."""
    folders = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            folder = AppFolder(
                tmp_path / name, redis_url, FLASK_TASKQUEUE_DEFAULT_QUEUE=name
            )
            folders.append(folder)
            folder.module_path.write_text(
                folder.module_path.read_text().replace(
                    "Flask(__name__)", f"Flask({name!r})"
                )
            )
        workers = [folder.worker("-c", "1", ready=False) for folder in folders]
        module = folders[0].module()
        for name in ("one", "two"):
            app = module.create_app(
                TASKQUEUE_URL=redis_url, TASKQUEUE_DEFAULT_QUEUE=name
            )
            with app.app_context():
                assert module.app_name.delay().get(timeout=15) == name
        assert [worker.stop() for worker in workers] == [0, 0]
    finally:
        for folder in folders:
            folder.close()


def test_a_shared_task_stays_shared(tq: TaskQueue, shared_names: None):
    clean = shared_task(function("lib", "clean"))
    with pytest.raises(ValueError, match="shared by all"):
        tq.register_task(clean)
    assert clean.owner is None


def test_a_task_can_be_looked_at_like_its_function(tq: TaskQueue):
    @tq.task
    def add(x: int, y: int = 1) -> str:
        return str(x + y)

    assert add.__qualname__.endswith("<locals>.add")  # type: ignore[attr-defined]
    assert t.get_type_hints(add) == {"x": int, "y": int, "return": str}
    assert str(inspect.signature(add)) == "(x: 'int', y: 'int' = 1) -> 'str'"
