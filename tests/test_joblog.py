"""What is logged of jobs."""

from __future__ import annotations

import contextvars
import copy
import logging
import pickle

import pytest
from flask import Flask

from flask_taskqueue import joblog
from flask_taskqueue.joblog import brief_repr, get_task_logger, running

REDACT = ["password", "token"]


class Kept(logging.Handler):
    """Keeps the records, and their messages as a formatter shows them."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.messages = []

    def emit(self, record):
        self.messages.append(self.format(record))
        self.records.append(record)


@pytest.fixture
def kept(request):
    logger = get_task_logger(f"tests.joblog.{request.node.name}")
    logger.setLevel(logging.INFO)
    handler = Kept()
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)


def in_job(function, *args, job=("pkg.add", "id-1")):
    """Call a function as the worker does while a job runs."""

    def run():
        running.set(job)
        return function(*args)

    return contextvars.Context().run(run)


class Unprintable:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(("done",), "done", id="text"),
        pytest.param(("100%",), "100%", id="percent"),
        pytest.param(("%s of %d%%", "a", 3), "a of 3%", id="arguments"),
        pytest.param(("%(a)s", {"a": 1}), "1", id="dict"),
        pytest.param((ValueError("x"),), "x", id="object"),
        pytest.param(({"a": "%"},), "{'a': '%'}", id="dict-message"),
    ],
)
def test_the_message_has_the_job_before_it_while_one_runs(kept, args, message):
    logger, handler = kept
    logger.info(*args)
    in_job(logger.info, *args)
    assert handler.messages == [message, f"pkg.add[id-1]: {message}"]


def test_a_percent_in_the_tasks_name_is_no_placeholder(kept):
    logger, handler = kept
    in_job(logger.info, "%s", 1, job=("50%s", "i%d"))
    in_job(logger.info, "plain", job=("50%s", "i%d"))
    assert handler.messages == ["50%s[i%d]: 1", "50%s[i%d]: plain"]


def test_records_keep_their_arguments(kept):
    logger, handler = kept
    in_job(logger.info, "%(a)s", {"a": 1})
    assert handler.records[0].args == {"a": 1}


def test_records_know_their_job(kept):
    logger, handler = kept
    logger.info("outside")
    in_job(logger.info, "inside")
    known = [(record.task_name, record.task_id) for record in handler.records]
    assert known == [("", "-"), ("pkg.add", "id-1")]


def test_attributes_given_with_extra_are_kept(kept):
    logger, handler = kept
    in_job(lambda: logger.info("x", extra={"task_id": "other"}))
    assert handler.records[0].task_id == "other"


def test_a_message_that_cannot_be_shown_does_not_reach_the_task(kept):
    logger, handler = kept
    handler.emit = lambda record: None
    logger.propagate = False  # pytest's own handler raises instead of reporting
    in_job(logger.info, Unprintable())


def test_asking_twice_adds_one_prefix(kept):
    logger, handler = kept
    assert get_task_logger(logger.name) is logger
    in_job(logger.info, "x")
    assert handler.messages == ["pkg.add[id-1]: x"]


@pytest.fixture
def named_records():
    """What a worker installs, taken out again after the test."""
    before = logging.getLogRecordFactory()
    joblog.name_jobs_in_records()
    yield
    logging.setLogRecordFactory(before)


@pytest.fixture
def elsewhere(request):
    """A logger that nobody asked of get_task_logger, and its records."""
    logger = logging.getLogger(f"tests.elsewhere.{request.node.name}")
    logger.setLevel(logging.INFO)
    handler = Kept()
    handler.setFormatter(logging.Formatter("%(task_name)s[%(task_id)s] %(message)s"))
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)


@pytest.mark.usefixtures("named_records")
def test_in_a_worker_records_of_every_logger_know_their_job(elsewhere):
    logger, handler = elsewhere
    logger.info("outside")
    in_job(logger.info, "inside %s", 1)
    in_job(lambda: logger.info("again", extra={"job": 2}))
    assert handler.messages == [
        "[-] outside",
        "pkg.add[id-1] inside 1",
        "pkg.add[id-1] again",
    ]
    assert handler.records[-1].job == 2


@pytest.mark.usefixtures("named_records")
def test_in_a_worker_the_apps_own_extra_of_these_names_is_no_error(elsewhere):
    logger, handler = elsewhere
    in_job(lambda: logger.info("x", extra={"task_id": 7, "task_name": "sweep"}))
    assert handler.messages == ["sweep[7] x"]
    with pytest.raises(KeyError, match="lineno"):  # as logging does without us
        logger.info("x", extra={"lineno": 7})


@pytest.mark.usefixtures("named_records")
def test_a_record_of_a_worker_can_be_copied_and_sent(elsewhere):
    logger, handler = elsewhere
    in_job(logger.info, "x")
    (record,) = handler.records
    for copied in (copy.copy(record), pickle.loads(pickle.dumps(record))):
        assert handler.format(copied) == "pkg.add[id-1] x"


@pytest.mark.usefixtures("named_records")
def test_in_a_worker_a_task_loggers_message_has_one_prefix(kept):
    logger, handler = kept
    in_job(logger.info, "x")
    assert handler.messages == ["pkg.add[id-1]: x"]


def test_an_apps_own_factory_of_records_is_kept(elsewhere, request):
    logger, handler = elsewhere
    before = logging.getLogRecordFactory()

    def with_tenant(*args, **kwargs):
        record = before(*args, **kwargs)
        record.tenant, record.task_id = "acme", "own"
        return record

    logging.setLogRecordFactory(with_tenant)
    request.addfinalizer(lambda: logging.setLogRecordFactory(before))
    joblog.name_jobs_in_records()
    in_job(logger.info, "x")
    assert handler.records[0].tenant == "acme"
    assert handler.messages == ["pkg.add[own] x"]


@pytest.mark.usefixtures("named_records")
def test_the_factory_is_installed_once():
    installed = logging.getLogRecordFactory()
    joblog.name_jobs_in_records()
    assert logging.getLogRecordFactory() is installed


def test_other_loggers_and_flasks_stay_as_they_are():
    app = Flask("tests_joblog_app")
    before = (app.logger.handlers[:], app.logger.filters[:], app.logger.level)
    logger = get_task_logger("tests_joblog_app.tasks")
    assert (app.logger.handlers, app.logger.filters, app.logger.level) == before
    assert (logger.handlers, logger.level, logger.propagate) == ([], 0, True)
    assert logging.getLogger().filters == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(joblog.received("pkg.add", "ID"), "received", id="received"),
        pytest.param(
            joblog.succeeded("pkg.add", "ID", 0.00214, "3"),
            "succeeded in 0.0021s: 3",
            id="succeeded",
        ),
        pytest.param(
            joblog.succeeded("pkg.add", "ID", 12.5),
            "succeeded in 12.5000s",
            id="without-result",
        ),
        pytest.param(
            joblog.succeeded("pkg.add", "ID", 1, "x" * 101),
            "succeeded in 1.0000s: " + "x" * 99 + "…",
            id="long-result",
        ),
        pytest.param(
            joblog.succeeded("pkg.add", "ID", 1, "x" * 100),
            "succeeded in 1.0000s: " + "x" * 100,
            id="just-fits",
        ),
        pytest.param(
            joblog.failed("pkg.add", "ID", 0.5, "ValueError('x')"),
            "failed in 0.5000s: ValueError('x')",
            id="failed",
        ),
        pytest.param(
            joblog.failed("pkg.add", "ID", None, "WorkerLostError()"),
            "failed: WorkerLostError()",
            id="lost",
        ),
        pytest.param(
            joblog.retried("pkg.add", "ID", 3.0, "ValueError('x')"),
            "retry: Retry in 3s: ValueError('x')",
            id="retried",
        ),
        pytest.param(
            joblog.retried("pkg.add", "ID", 0.25), "retry: Retry in 0.25s", id="short"
        ),
        pytest.param(
            joblog.retried("pkg.add", "ID", 1_000_000),
            "retry: Retry in 1000000s",
            id="long",
        ),
        pytest.param(joblog.revoked("pkg.add", "ID"), "revoked", id="revoked"),
        pytest.param(
            joblog.revoked("pkg.add", "ID", "expired"), "revoked: expired", id="expired"
        ),
        pytest.param(
            joblog.parked("pkg.add", "ID"), "parked: not registered here", id="parked"
        ),
    ],
)
def test_lines(line, expected):
    assert line == f"Task pkg.add[ID] {expected}"


def test_a_line_stays_one_line():
    assert joblog.received("a\nTask b", "i\r") == "Task a\\nTask b[i\\r] received"
    assert "\n" not in joblog.failed("a", "i", 1, "Error('x')\nmore")


@pytest.mark.parametrize(
    "value",
    [
        3, None, True, 1.5, "é", b"\xff", [], {}, (), set(), (1,), [1, [2]],
        {"a": (1, 2)}, {1, 2}, frozenset({1}), {None: {"b": []}},
    ],
    ids=repr,
)  # fmt: skip
def test_a_short_value_is_shown_as_it_is(value):
    assert brief_repr(value, REDACT) == repr(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            {"password": "x", "a": 1}, "{'password': '***', 'a': 1}", id="key"
        ),
        pytest.param([{"Access_Token": 5}], "[{'Access_Token': '***'}]", id="part"),
        pytest.param({"a": {"token": {"b": 1}}}, "{'a': {'token': '***'}}", id="deep"),
    ],
)
def test_secrets_are_masked(value, expected):
    assert brief_repr(value, REDACT) == expected
    assert brief_repr(value, ["PASSWORD", "Token"]) == expected


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"x" * 10**6, list(range(10**6)), {n: n for n in range(10**5)}],
    ids=["str", "bytes", "list", "dict"],
)
def test_a_long_value_is_cut(value):
    shown = brief_repr(value)
    assert len(shown) == 100
    assert shown[:99] == repr(value)[:99]
    assert shown[-1] == "…"


def test_a_long_value_is_not_walked():
    class Counted(list):
        seen = 0

        def __iter__(self):
            for item in super().__iter__():
                Counted.seen += 1
                yield item

    brief_repr(Counted(range(10**6)))
    assert Counted.seen < 100


def test_values_that_are_hard_to_show():
    circle = []
    circle.append(circle)
    assert brief_repr(circle).startswith("[[[[")
    assert brief_repr(10**5000) == f"<int of {(10**5000).bit_length()} bits>"
    assert brief_repr(Unprintable()).endswith("Unprintable object>")
    assert brief_repr("a\nb") == "'a\\nb'"
