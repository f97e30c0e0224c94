"""Classes as tasks and bases: their options, their ``__init__``, their registration."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
import redis

from flask_taskqueue import Task, TaskQueue

from .running import InProcess


@pytest.fixture
def tq() -> TaskQueue:
    return TaskQueue()


@pytest.fixture
def eager(redis_url: str, client: redis.Redis) -> t.Iterator[TaskQueue]:
    """A TaskQueue whose calls run in the caller, its app's context pushed."""
    site = InProcess(__name__, redis_url, client, TASKQUEUE_EAGER=True)
    with site.app.app_context():
        yield site.tq


def work() -> None: ...


class Base(Task[t.Any, t.Any]):
    queue = "reports"
    max_retries = 7
    time_limit = 60


class Report(Base):
    """Counts."""

    time_limit = 30

    def run(self, n: int) -> str:
        return "x" * n


class Named(Base):
    name = "named"

    def run(self) -> str:
        return self.name


def test_a_class_is_a_task(tq: TaskQueue):
    task = tq.register_task(Report())
    assert task.name == f"{__name__}.Report"
    assert tq.tasks[task.name] is task
    assert task(3) == "xxx"
    assert task.__doc__ == "Counts."
    options = task.options
    assert (options.queue, options.max_retries, options.time_limit) == (
        "reports",
        7,
        30,
    )
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        task.check_args((), {})
    assert tq.register_task(Named()).name == "named"


def test_only_an_instance_of_a_task_class_is_registered(tq: TaskQueue):
    with pytest.raises(TypeError, match="an instance of a Task class, got <class"):
        tq.register_task(Report)  # type: ignore[arg-type]


def test_a_function_on_a_base_has_its_options(tq: TaskQueue):
    task = tq.task(base=Base, max_retries=1)(work)
    assert isinstance(task, Base)
    assert (task.options.queue, task.options.max_retries) == ("reports", 1)


def test_a_class_without_run_says_so(tq: TaskQueue):
    with pytest.raises(NotImplementedError, match=r"Base defines no run\(\)"):
        Base()()


class Auth(Task[..., t.Any]):
    """As Celery's documentation writes it: without a call of the base's."""

    def __init__(self) -> None:
        self.users = {"ann": 1}

    def run(self, name: str) -> int | None:
        return self.users.get(name)


def test_a_class_need_not_call_the_base_s_init(eager: TaskQueue):
    auth = eager.register_task(Auth())
    assert auth.name == f"{__name__}.Auth"
    assert auth.delay("ann").get() == 1


def test_a_base_s_init_is_called_for_a_function(tq: TaskQueue):
    @tq.task(base=Auth, bind=True, name="known")
    def known(self: t.Any, name: str) -> bool:
        return name in self.users

    # The function takes the place of the base's run(), as in Celery.
    assert (known("ann"), known("bob"), known.name) == (True, False, "known")
    with pytest.raises(TypeError, match="missing a required"):
        known.check_args((), {"user": "ann"})


def test_a_class_s_init_may_take_what_it_likes(tq: TaskQueue):
    class Mailer(Task[[], str]):
        def __init__(self, host: str, *, port: int = 25) -> None:
            super().__init__()
            self.host = f"{host}:{port}"

        def run(self) -> str:
            return self.host

    assert tq.register_task(Mailer("mx", port=587))() == "mx:587"
    with pytest.raises(TypeError, match="'host'"):
        tq.task(base=Mailer)(work)


def test_what_is_no_class_of_tasks_is_no_base(tq: TaskQueue):
    with pytest.raises(TypeError, match="'base' to be a subclass of Task, got 'Base'"):
        tq.task(base="Base")(work)  # type: ignore[call-overload]


class Patient(Task[..., t.Any]):
    max_retries = 5
    default_retry_delay = 2

    def run(self) -> tuple[object, object]:
        return self.max_retries, self.default_retry_delay


class Retrying:
    max_retries = 6


class Mixed(Retrying, Patient):
    pass


def test_a_class_task_knows_the_retries_of_its_job(eager: TaskQueue):
    task, mixed = eager.register_task(Patient()), eager.register_task(Mixed())
    assert (task.max_retries, task.default_retry_delay) == (5, 2)
    assert task.delay().get() == [5, 2]
    changed = task.apply_async(max_retries=9, default_retry_delay=timedelta(seconds=7))
    assert changed.get() == [9, 7]
    assert mixed.apply_async(default_retry_delay=1).get() == [6, 1]

    @eager.task(base=Patient, max_retries=7, bind=True)
    def bound(self: t.Any) -> tuple[object, object]:
        return self.max_retries, self.default_retry_delay

    assert (bound.max_retries, bound.delay().get()) == (7, [7, 2])
    assert (Patient.max_retries, Mixed.max_retries) == (5, 6)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("max_retrys", 5, "did you mean 'max_retries'?"),
        ("max_retry", 5, "did you mean 'max_retries'?"),
        ("queues", ["a"], "did you mean 'queue'?"),
        ("throw", ValueError, "did you mean 'throws'?"),
        ("rate_limit", "10/m", "'rate_limit'; known are"),
        ("acks_late", True, "known are"),
        ("bind", True, "known are"),
        ("unique", True, "known are"),
    ],
)
def test_an_option_a_class_cannot_have_is_refused(name: str, value: object, hint: str):
    with pytest.raises(TypeError, match=rf"attribute of Wrong.*, got '{name}'") as told:
        type("Wrong", (Task,), {name: value})
    assert hint in str(told.value)


def test_a_class_has_attributes_of_its_own():
    class Own(Task[..., t.Any]):
        abstract = True
        users: t.ClassVar[dict[str, int]] = {}
        _queues = ("a",)

        def queues(self) -> tuple[str, ...]:
            return self._queues

        @property
        def unique(self) -> str:
            return "one"

    own = Own()
    assert (own.queues(), own.unique) == (("a",), "one")


def test_an_option_set_on_an_instance_is_refused():
    class Late(Task[..., t.Any]):
        def __init__(self) -> None:
            self.queue = "late"

    with pytest.raises(AttributeError, match="'queue' is an option: set it in the"):
        Late()
    with pytest.raises(AttributeError, match="'max_retries' is an option"):
        Patient().max_retries = 3


class Renamed(Named):
    pass


def test_an_inherited_name_is_told_what_to_do(tq: TaskQueue):
    tq.register_task(Named())
    with pytest.raises(ValueError, match=r"\.Renamed: .* name of its own"):
        tq.register_task(Renamed())
    assert tq.task(base=Named)(work).name == f"{__name__}.work"


def test_an_instance_belongs_to_one_task_queue(eager: TaskQueue):
    other, report = TaskQueue(), Report()
    assert eager.register_task(report) is eager.register_task(report) is report
    with pytest.raises(ValueError, match=r"another TaskQueue.*register_task\(Report\("):
        other.register_task(report)
    assert report.name not in other.tasks
    assert report.delay(1).state == "SUCCESS"


def test_a_refused_instance_belongs_to_nobody(tq: TaskQueue):
    tq.register_task(Named())
    refused = Renamed()
    with pytest.raises(ValueError, match="unique"):
        tq.register_task(refused)
    assert refused.owner is None
