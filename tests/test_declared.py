"""Entries that stand in the code: where they come from, and what is wrong with them."""

from __future__ import annotations

import json
import logging
import typing as t
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

import flask_taskqueue
from flask_taskqueue import Task, TaskQueue, crontab, every, shared_task
from flask_taskqueue.beat.declared import declared
from flask_taskqueue.beat.entries import Entry
from flask_taskqueue.beat.schedules import At
from flask_taskqueue.beat.schedules import crontab as Crontab

from .shop import NOWHERE

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def work(x: int = 0, y: int = 0) -> int:
    return x + y


def other() -> None: ...


class _Odd:
    """An argument as some libraries have: it is compared by element."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = object.__hash__


@shared_task(name="test_declared.shared")
def work_shared() -> None: ...


class Site:
    """An app with a task ``add``."""

    def __init__(self, schedule: object = None, **config: object) -> None:
        self.tq = TaskQueue(url=NOWHERE)
        self.add = self.tq.task(name="add")(work)
        self.app = Flask("site")
        self.app.config.update(config)
        if schedule is not None:
            self.app.config["TASKQUEUE_BEAT_SCHEDULE"] = schedule
        self.tq.init_app(self.app)

    def declared(self) -> tuple[list[Entry], list[str]]:
        """Its entries and problems."""
        return declared(self.tq.state_of(self.app))

    def entries(self) -> dict[str, Entry]:
        """Its entries by name; there is no problem."""
        entries, problems = self.declared()
        assert problems == []
        return {entry.name: entry for entry in entries}


def test_the_schedule_of_celerys_documentation_is_read_as_it_is():
    site = Site(
        {
            "add-every-30-seconds": {
                "task": "add",
                "schedule": 30.0,
                "args": (16, 16),
                "options": {"expires": 15.0},
            },
            "add-every-monday-morning": {
                "task": "add",
                "schedule": crontab(hour=7, minute=30, day_of_week=1),
                "args": (16, 16),
            },
            "add-every-10": {"task": "add", "schedule": timedelta(seconds=10)},
            "birthday": {
                "task": "add",
                "schedule": crontab(
                    minute=42, hour=8, day_of_month=11, month_of_year=4
                ),
                "kwargs": {"x": 1},
            },
        }
    )
    entries = site.entries()
    assert list(entries) == [
        "add-every-30-seconds", "add-every-monday-morning", "add-every-10", "birthday",
    ]  # fmt: skip
    assert entries["add-every-30-seconds"] == Entry(
        name="add-every-30-seconds", task="add", schedule=every(30), args=(16, 16),
        options={"expires": 15.0},
    )  # fmt: skip
    birthday = entries["birthday"].schedule
    assert birthday.next_run(LATER) == datetime(2100, 4, 11, 8, 42, tzinfo=UTC)


def test_the_schedule_may_be_text_of_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch,
):
    schedule = {"a": {"task": "add", "schedule": "0 9 * * mon-fri", "args": [1, 2]}}
    monkeypatch.setenv("FLASK_TASKQUEUE_BEAT_SCHEDULE", json.dumps(schedule))
    app = Flask(__name__)
    app.config.from_prefixed_env()
    site = Site(app.config["TASKQUEUE_BEAT_SCHEDULE"])
    assert site.entries()["a"].args == (1, 2)


def test_all_three_places_have_entries():
    site = Site({"from-config": {"task": "add", "schedule": 1}})
    site.tq.periodic(2)(site.add)
    site.tq.add_periodic_task(3, site.add.s(1), name="added")
    assert list(site.entries()) == ["from-config", "add", "added"]


def test_a_schedule_is_in_the_zone_of_each_app_unless_it_names_one():
    site = Site(TASKQUEUE_TIMEZONE="Asia/Shanghai")
    site.tq.periodic("0 0 * * *", name="app's")(site.add)
    site.tq.periodic("0 0 * * *", name="entry's", tz="Europe/Paris")(site.add)
    mine = crontab(0, 0, tz="America/Nuuk")
    site.tq.periodic(mine, name="its own", tz="Europe/Paris")(site.add)
    second = Flask("second")
    site.tq.init_app(second)

    def zones(app: Flask) -> list[str]:
        entries, _ = declared(site.tq.state_of(app))
        return [str(entry.schedule.zone) for entry in entries]

    assert zones(site.app) == ["Asia/Shanghai", "Europe/Paris", "America/Nuuk"]
    assert zones(second) == ["UTC", "Europe/Paris", "America/Nuuk"]
    midnight = site.entries()["app's"].schedule.next_run(LATER)
    assert midnight == datetime(2100, 1, 1, 16, tzinfo=UTC)


def test_a_function_becomes_a_task_and_an_entry_of_its_name():
    site = Site()

    @site.tq.periodic(30)
    def heartbeat() -> str:
        return "alive"

    assert isinstance(heartbeat, Task)
    assert site.tq.tasks[heartbeat.name] is heartbeat
    assert heartbeat() == "alive"
    assert site.entries() == {
        heartbeat.name: Entry(
            name=heartbeat.name, task=heartbeat.name, schedule=every(30)
        )
    }


def test_a_task_stays_itself_and_gets_all_parts():
    site = Site()
    decorated = site.tq.periodic(
        crontab(0, 3),
        "nightly",
        (1,),
        {"y": 2},
        options={"queue": "slow"},
        tz="Europe/Paris",
        enabled=False,
        overlap="skip",
        misfire="all",
        grace=timedelta(minutes=5),
    )(site.add)
    assert decorated is site.add
    assert site.entries()["nightly"] == Entry(
        name="nightly", task="add", schedule=crontab(0, 3, tz="Europe/Paris"),
        args=(1,), kwargs={"y": 2}, options={"queue": "slow"}, enabled=False,
        overlap="skip", misfire="all", grace=300.0,
    )  # fmt: skip


def test_shared_tasks_and_tasks_that_are_classes_may_be_periodic():
    site = Site()

    class Report(Task[[], None]):
        name = "report"

        def run(self) -> None: ...

    site.tq.periodic(1)(work_shared)
    site.tq.periodic(2)(site.tq.register_task(Report()))
    assert list(site.entries()) == ["test_declared.shared", "report"]


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(2.5, id="seconds"),
        pytest.param(timedelta(hours=1), id="timedelta"),
        pytest.param(LATER, id="datetime"),
        pytest.param("*/5 * * * *", id="text"),
        pytest.param(every(1), id="every"),
        pytest.param(crontab(), id="crontab"),
    ],
)
def test_every_form_of_schedule_is_taken(schedule: t.Any):
    site = Site()
    site.tq.periodic(schedule)(site.add)
    site.tq.add_periodic_task(schedule, site.add.s(), name="added")
    entries = site.entries()
    assert entries["add"].schedule == entries["added"].schedule
    assert isinstance(entries["add"].schedule, (type(every(1)), Crontab, At))


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        pytest.param({"schedule": "* * *"}, ValueError, "five fields", id="cron"),
        pytest.param({"schedule": None}, TypeError, "a schedule to be", id="none"),
        pytest.param({"schedule": other}, TypeError, "a schedule to be", id="bare"),
        pytest.param({"tz": "Europe/Pari"}, ValueError, "'Europe/Paris'", id="zone"),
        pytest.param({"args": "Erics"}, TypeError, r"\('Erics',\)", id="text-args"),
        pytest.param({"args": (1, 2, 3)}, TypeError, "too many", id="args"),
        pytest.param({"kwargs": {"z": 1}}, TypeError, "'z'", id="kwargs"),
        pytest.param({"options": {"eta": LATER}}, ValueError, "'eta'", id="eta"),
        pytest.param({"options": {"que": "a"}}, TypeError, "'que'", id="option"),
        pytest.param({"overlap": "no"}, ValueError, "'allow' or 'skip'", id="overlap"),
        pytest.param({"jitter": 3}, TypeError, "'jitter'", id="part"),
        pytest.param({"name": ""}, TypeError, "non-empty", id="name"),
    ],
)
def test_what_is_wrong_beside_a_task_is_raised_there(
    parts: dict[str, t.Any], error: type[Exception], text: str
):
    site = Site()
    with pytest.raises(error, match=text):
        site.tq.periodic(**{"schedule": 1, **parts})(site.add)
    assert site.declared() == ([], [])


def test_a_wrong_schedule_leaves_no_task():
    site = Site()
    with pytest.raises(ValueError, match="cron text"):
        site.tq.periodic("often")(other)
    assert f"{__name__}.other" not in site.tq.tasks


@pytest.mark.parametrize("same", [True, False])
def test_a_task_that_is_declared_twice_needs_names(same: bool):
    site = Site()
    site.tq.periodic(30)(site.add)
    again = site.tq.periodic(30 if same else 60)
    if same:
        again(site.add)
    else:
        with pytest.raises(ValueError, match="an entry 'add' .* already: .* name=…"):
            again(site.add)
        site.tq.periodic(60, "slowly")(site.add)
    schedules = [entry.schedule for entry in site.entries().values()]
    assert schedules == [every(30)] if same else [every(30), every(60)]


def test_a_factory_that_is_called_again_replaces():
    site = Site()
    for seconds in (10, 20):
        site.tq.periodic(seconds)(site.tq.task(name="made")(other))
        site.tq.periodic(seconds, name="named")(site.add)
        site.tq.add_periodic_task(seconds, site.add.s(1), name="added")
    schedules = [entry.schedule for entry in site.entries().values()]
    assert schedules == [every(20)] * 3


@pytest.mark.parametrize(
    ("again", "warned"),
    [
        pytest.param({}, False, id="same"),
        pytest.param({"schedule": timedelta(seconds=30)}, False, id="other-form"),
        pytest.param({"schedule": 60}, True, id="schedule"),
        pytest.param({"args": [2]}, True, id="arguments"),
        pytest.param({"expires": 9}, True, id="option"),
        pytest.param({"misfire": "skip"}, True, id="rule"),
        pytest.param({"args": [_Odd()]}, True, id="arguments-that-cannot-compare"),
    ],
)
def test_a_name_that_is_declared_again_with_another_definition_warns(
    again: dict[str, t.Any], warned: bool, caplog: pytest.LogCaptureFixture
):
    site = Site()
    for parts in ({}, again):
        made = site.tq.task(name="made")(work)
        given = {"schedule": 30, "args": [1], "link": made.s(3), **parts}
        site.tq.add_periodic_task(signature=made.s(), name="mine", **given)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warned
    for message in messages:
        assert message.startswith("the entry 'mine' is declared again, with another")
        assert "before: every 30 s" in message
    assert len(site.tq._provided.entries) == 1


def test_a_name_of_another_task_is_taken():
    site = Site()
    site.tq.periodic(30, name="mine")(site.add)
    with pytest.raises(ValueError, match="got 'mine' for add and other"):
        site.tq.periodic(30, name="mine")(site.tq.task(name="other")(other))


def test_a_task_of_another_taskqueue_is_refused():
    site = Site()
    with pytest.raises(ValueError, match="a task of this TaskQueue, or a shared one"):
        site.tq.periodic(30)(Site().add)
    with pytest.raises(ValueError, match="not registered here"):
        site.tq.periodic(30)(Task.from_function(other))


def test_celerys_call_works_as_it_is():
    site = Site()
    tq, add = site.tq, site.add
    tq.add_periodic_task(10.0, add.s(1), name="add every 10", expires=10)
    tq.add_periodic_task(30.0, add.s(2, y=3))
    tq.add_periodic_task(crontab(hour=7, minute=30, day_of_week=1), add.s(1, 2))
    assert list(site.entries()) == ["add every 10", "add(2, y=3)", "add(1, 2)"]
    assert site.entries()["add every 10"].options == {"expires": 10}
    assert site.entries()["add(2, y=3)"] == Entry(
        name="add(2, y=3)", task="add", schedule=every(30), args=(2,), kwargs={"y": 3}
    )


def test_arguments_and_options_are_added_to_those_of_the_signature():
    site = Site()
    signature = site.add.signature((2,), {}, queue="slow", priority=1)
    site.tq.add_periodic_task(
        1, signature, (1,), name="a", queue="mail", expires=5, overlap="skip", grace=1
    )
    assert site.entries()["a"] == Entry(
        name="a", task="add", schedule=every(1), args=(1, 2), overlap="skip",
        grace=1.0, options={"queue": "mail", "priority": 1, "expires": 5},
    )  # fmt: skip
    assert (signature.args, signature.options["queue"]) == ((2,), "slow")


def test_an_immutable_signature_keeps_its_arguments():
    site = Site()
    site.tq.add_periodic_task(1, site.add.si(1), (5,), {"y": 5}, tz="Asia/Tokyo")
    assert site.entries()["add(1)"].args == (1,)
    assert site.entries()["add(1)"].kwargs == {}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda site: (1, site.add), TypeError, "a signature such as"),
        (lambda site: (1, "add"), TypeError, "a signature such as"),
        (lambda site: (1, site.add.s(1, 2, 3)), TypeError, "too many"),
        (lambda site: (1, site.add.s(1), "Erics"), TypeError, "args to be a list"),
        (lambda site: ("never", site.add.s()), ValueError, "cron text"),
        (lambda site: (1, site.add.signature(eta=LATER)), ValueError, "'eta'"),
    ],
    ids=["task", "name", "arguments", "text-args", "schedule", "eta"],
)
def test_what_is_wrong_with_a_call_is_raised_there(
    call: t.Callable[[t.Any], t.Any], error: type[Exception], text: str
):
    site = Site()
    with pytest.raises(error, match=text):
        site.tq.add_periodic_task(*call(site))
    assert site.declared() == ([], [])


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        pytest.param("quue", "queue", id="option"),
        pytest.param("overlp", "overlap", id="rule"),
        pytest.param("nam", "name", id="parameter"),
        pytest.param("sparkle", None, id="nothing"),
    ],
)
def test_an_unknown_keyword_of_a_call_is_told_the_known(
    keyword: str, meant: str | None
):
    site = Site()
    call: t.Any = site.tq.add_periodic_task
    with pytest.raises(TypeError) as caught:
        call(1, site.add.s(), **{keyword: 1})
    said, _, known = str(caught.value).partition("; known are ")
    near = f" (did you mean {meant!r}?)" if meant else ""
    expected = f"expected a known keyword of add_periodic_task, got {keyword!r}{near}"
    assert said == expected
    assert {"queue", "expires", "tz", "grace"} <= set(known.split(", "))
    assert not {"eta", "countdown", "task_id"} & set(known.split(", "))
    with pytest.raises(ValueError, match="cannot have 'countdown': an entry's time"):
        call(1, site.add.s(), countdown=3)


def test_the_same_call_with_another_schedule_needs_a_name():
    site = Site()
    site.tq.add_periodic_task(1, site.add.s(1))
    site.tq.add_periodic_task(1, site.add.s(1))
    with pytest.raises(ValueError, match=r"an entry 'add\(1\)' .* already"):
        site.tq.add_periodic_task(2, site.add.s(1))
    assert site.entries()["add(1)"].schedule == every(1)


def test_a_task_that_is_not_loaded_yet_may_be_named():
    site = Site()
    site.tq.add_periodic_task(1, site.tq.signature("later", (1,)), name="a")
    _, (problem,) = site.declared()
    assert problem.startswith("expected 'task' of entry 'a' to be a registered task")
    site.tq.task(name="later")(work)
    assert site.entries()["a"].args == (1,)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        pytest.param(7, "'bad' to be a dict", id="no-dict"),
        pytest.param({"schedule": 1}, "'bad' to have 'task'", id="no-task"),
        pytest.param({"task": "add"}, "'bad' to have 'schedule'", id="no-schedule"),
        pytest.param({"task": "ad", "schedule": 1}, "did you mean 'add'", id="unknown"),
        pytest.param(
            {"task": "far.away", "schedule": 1},
            "'far.away'; is its module imported? TASKQUEUE_IMPORTS names modules with",
            id="not-imported",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "every": 3}, "misfire, grace, tz",
            id="unknown-part",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "args": ("Erics")},
            r"write ('Erics',) or ['Erics']",
            id="celery-args",
        ),
        pytest.param(
            {"task": "add", "schedule": "0 0 30 2 *"}, "'schedule' of entry 'bad'",
            id="impossible",
        ),
        pytest.param(
            {"task": "add", "schedule": "@daily", "tz": "Mars/Phobos"},
            "'tz' of entry 'bad'",
            id="zone",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "args": (1, 2, 3)}, "'bad' to fit its task",
            id="args",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "args": (object(),)},
            "entry 'bad': expected argument 0 to be JSON",
            id="encoding",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "args": ("x" * 2_000_000,)},
            "entry 'bad': expected arguments of at most 1048576",
            id="too-large",
        ),
        pytest.param(
            {"task": "add", "schedule": 1, "options": {"serializer": "pickle"}},
            "entry 'bad': expected 'serializer' to be one of",
            id="serializer",
        ),
        pytest.param(
            {"task": "silent", "schedule": 1},
            "entry 'bad': the entry 'bad' cannot be fired: ",
            id="override",
        ),
        pytest.param(
            {"task": "broken", "schedule": 1},
            "entry 'bad': ZeroDivisionError: ",
            id="broken-override",
        ),
    ],
)  # fmt: skip
def test_each_problem_is_told_and_the_others_are_entries(entry: object, text: str):
    site = Site(
        {"a": {"task": "add", "schedule": 1}, "bad": entry,
         "b": {"task": "add", "schedule": 1}}
    )  # fmt: skip

    class Silent(Task[[], None]):
        name = "silent"

        def run(self) -> None: ...

        def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
            return None

    class Broken(Silent):
        name = "broken"

        def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
            return 1 / 0

    site.tq.register_task(Silent())
    site.tq.register_task(Broken())
    entries, problems = site.declared()
    assert [entry.name for entry in entries] == ["a", "b"]
    (problem,) = problems
    assert text in problem


def test_a_name_that_is_no_text_is_a_problem_like_others():
    good = {"task": "add", "schedule": "@daily", "args": ["ann@example.org"]}
    site = Site({1: good, "good": good, "bad": {"task": "ad", "schedule": 1}})
    (entry,), (problem, other_problem) = site.declared()
    assert (entry.name, "entry 'bad'" in other_problem) == ("good", True)
    assert problem == (
        "expected the names of entries in TASKQUEUE_BEAT_SCHEDULE to be texts, got 1"
    )


def test_all_problems_are_told():
    site = Site({name: {"task": name, "schedule": 1} for name in "xyz"})
    entries, problems = site.declared()
    assert (entries, len(problems)) == ([], 3)


@pytest.mark.parametrize("task", ["add", "other"])
def test_a_name_in_the_configuration_and_beside_a_task_is_a_problem(task: str):
    site = Site({"twice": {"task": "add", "schedule": 1}})
    site.tq.task(name="other")(other)
    site.tq.periodic(2, name="twice")(t.cast("Task[[], None]", site.tq.tasks[task]))
    (entry,), (problem,) = site.declared()
    assert entry.schedule == every(1)
    assert problem == (
        "the entry 'twice' stands in TASKQUEUE_BEAT_SCHEDULE and is declared in the"
        " code, too: give one of them another name"
    )


def test_it_needs_no_redis_and_runs_nothing_where_calls_are_eager():
    site = Site({"a": {"task": "fail", "schedule": 1}}, TASKQUEUE_EAGER=True)

    @site.tq.task(name="fail")
    def fail() -> None:
        raise AssertionError("it ran")

    assert list(site.entries()) == ["a"]


def test_nothing_is_logged_of_good_entries(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="flask_taskqueue"):
        site = Site({"a": {"task": "add", "schedule": 1}})
        site.entries()
    assert caplog.messages == []


def test_a_key_that_is_missing_for_signing_is_no_problem_of_an_entry():
    site = Site({"a": {"task": "add", "schedule": 1}}, TASKQUEUE_SIGN=True)
    with pytest.raises(flask_taskqueue.errors.ConfigError, match="SECRET_KEY"):
        site.declared()


def test_the_schedules_can_be_imported_from_the_package():
    assert flask_taskqueue.crontab is Crontab
    assert flask_taskqueue.every(1) == every(1)
    assert {"crontab", "every"} <= set(flask_taskqueue.__all__)
    with pytest.raises(AttributeError, match="no attribute 'chron'"):
        _ = flask_taskqueue.chron
