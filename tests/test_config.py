import dataclasses
import logging
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue.config import Config, load_config, markdown_table, read_flag
from flask_taskqueue.errors import ConfigError
from flask_taskqueue.routing import QueueRule

CONFIG_PAGE = Path(__file__).parents[1] / "docs" / "config.md"
NAMES = [field.name for field in dataclasses.fields(Config) if field.metadata]


def load(**values):
    """The settings of an app with these keys, given without their prefix."""
    return load_config({f"TASKQUEUE_{k.upper()}": v for k, v in values.items()}, {})


def test_defaults():
    config = load_config({}, {})
    found = {name: getattr(config, name) for name in NAMES}
    assert found == {
        "url": None,
        "default_queue": "default",
        "queues": (QueueRule("default"),),
        "routes": (),
        "imports": (),
        "importable": (),
        "serializer": "json",
        "accept_content": ("json",),
        "sign": False,
        "max_args_bytes": 1024 * 1024,
        "max_result_bytes": 16 * 1024 * 1024,
        "max_retries": 3,
        "default_retry_delay": 180,
        "time_limit": None,
        "soft_time_limit": None,
        "result_ttl": 24 * 3600,
        "failure_ttl": 7 * 24 * 3600,
        "ignore_result": False,
        "timezone": "UTC",
        "beat_schedule": {},
        "eager": False,
        "eager_propagates": True,
        "carry_headers": ("X-Request-ID",),
        "log_results": True,
        "redact": ("password", "token", "secret", "authorization"),
        "status_prefix": "/tasks",
        "max_streams": 32,
        "dashboard_prefix": None,
    }


def test_app_config_wins_over_keyword_and_keyword_over_default():
    config = load_config({"TASKQUEUE_MAX_RETRIES": 1}, {"max_retries": 2, "sign": True})
    assert (config.max_retries, config.sign, config.max_streams) == (1, True, 32)


def test_none_in_app_config_wins_over_keyword():
    assert load_config({"TASKQUEUE_MAX_RETRIES": None}, {"max_retries": 2}) == load(
        max_retries=None
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(
            pytest.param("sign", text, True, id=f"flag-{text}")
            for text in ("true", "Yes", "ON", "1", " true ", 1, True)
        ),
        *(
            pytest.param("log_results", text, False, id=f"flag-{text}")
            for text in ("False", "no", "OFF", "0", 0, False)
        ),
        pytest.param("url", "unix:///run/redis.sock", "unix:///run/redis.sock", id="u"),
        pytest.param("url", "redis+sentinel://h:1/m", "redis+sentinel://h:1/m", id="s"),
        pytest.param("url", "embedded://", "embedded://", id="embedded"),
        pytest.param("url", "embedded:///srv/q", "embedded:///srv/q", id="directory"),
        pytest.param("url", "none", None, id="url-none-text"),
        pytest.param("max_retries", None, None, id="retries-for-ever"),
        pytest.param("max_retries", "null", None, id="retries-for-ever-text"),
        pytest.param("max_retries", "5", 5, id="retries-text"),
        pytest.param("max_retries", 0, 0, id="retries-0"),
        pytest.param("default_retry_delay", "0.5", 0.5, id="delay-text"),
        pytest.param("default_retry_delay", 0, 0, id="delay-0"),
        pytest.param("default_retry_delay", timedelta(minutes=1), 60, id="delay-delta"),
        pytest.param("time_limit", "30", 30, id="limit-text"),
        pytest.param("time_limit", timedelta(seconds=1.5), 1.5, id="limit-delta"),
        pytest.param("soft_time_limit", None, None, id="limit-none"),
        pytest.param("result_ttl", "60", 60, id="ttl-text"),
        pytest.param("result_ttl", "60.0", 60, id="ttl-float-text"),
        pytest.param("result_ttl", 60.0, 60, id="ttl-float"),
        pytest.param("failure_ttl", timedelta(days=1), 86400, id="ttl-delta"),
        pytest.param("failure_ttl", 0, 0, id="ttl-0"),
        pytest.param("max_args_bytes", "2048", 2048, id="bytes-text"),
        pytest.param("max_streams", 0, 0, id="streams-0"),
        pytest.param("imports", "a.tasks, b ,", ("a.tasks", "b"), id="list-text"),
        pytest.param("imports", '["a", "b"]', ("a", "b"), id="list-json"),
        pytest.param("imports", "", (), id="list-empty-text"),
        pytest.param("imports", ("a",), ("a",), id="list-tuple"),
        pytest.param("importable", "a.jobs.*", ("a.jobs.*",), id="importable"),
        pytest.param("redact", [], (), id="redact-nothing"),
        pytest.param("carry_headers", "X-A,X-B", ("X-A", "X-B"), id="headers-text"),
        pytest.param("serializer", "application/json", "json", id="media-type"),
        pytest.param("accept_content", "json, pickle", ("json", "pickle"), id="accept"),
        pytest.param("timezone", "Europe/Berlin", "Europe/Berlin", id="timezone"),
        pytest.param("beat_schedule", '{"a": {}}', {"a": {}}, id="schedule-json"),
        pytest.param("status_prefix", None, None, id="prefix-none"),
        pytest.param("status_prefix", "/api/jobs", "/api/jobs", id="prefix"),
        pytest.param("default_queue", "mail", "mail", id="queue"),
        pytest.param("queues", "a,b", (QueueRule("a"), QueueRule("b")), id="queues"),
        pytest.param(
            "queues",
            '["a", {"name": "b", "routing_key": "*.b"}]',
            (QueueRule("a"), QueueRule("b", "*.b")),
            id="queues-json",
        ),
    ],
)
def test_value_is_read(name, value, expected):
    found = getattr(load(**{name: value}), name)
    assert found == expected
    assert type(found) is not bool or type(expected) is bool


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("url", "", id="url-empty"),
        pytest.param("url", "localhost:6379", id="url-no-scheme"),
        pytest.param("url", 6379, id="url-int"),
        pytest.param("url", "amqp://localhost", id="url-amqp"),
        pytest.param("url", "redis://localhost:port", id="url-port"),
        pytest.param("url", "redis://localhost/name", id="url-database"),
        pytest.param("url", "redis+sentinel://h:1", id="url-no-service"),
        pytest.param("url", "unix://", id="url-no-path"),
        pytest.param("url", "embedded://data", id="url-relative"),
        pytest.param("default_queue", "a:b", id="queue-colon"),
        pytest.param("default_queue", None, id="queue-none"),
        pytest.param("queues", [], id="queues-empty"),
        pytest.param("queues", {"a", "b"}, id="queues-set"),
        pytest.param("queues", '["a"', id="queues-bad-json"),
        pytest.param("queues", [{"nom": "a"}], id="queues-unknown-key"),
        pytest.param("routes", "mail", id="routes-text"),
        pytest.param("routes", {"x": 3}, id="routes-int"),
        pytest.param("imports", 3, id="list-int"),
        pytest.param("imports", ["a", 3], id="list-of-int"),
        pytest.param("imports", [""], id="list-of-empty"),
        pytest.param("imports", {"a": 1}, id="list-dict"),
        pytest.param("imports", None, id="list-none"),
        pytest.param("importable", ["my*"], id="importable-never-fits"),
        pytest.param("serializer", "yaml", id="serializer-unknown"),
        pytest.param("serializer", None, id="serializer-none"),
        pytest.param("accept_content", ["yaml"], id="accept-unknown"),
        pytest.param("sign", "maybe", id="flag-word"),
        pytest.param("sign", "", id="flag-empty"),
        pytest.param("sign", 2, id="flag-2"),
        pytest.param("sign", 1.0, id="flag-float"),
        pytest.param("sign", None, id="flag-none"),
        pytest.param("max_args_bytes", 0, id="bytes-0"),
        pytest.param("max_args_bytes", None, id="bytes-none"),
        pytest.param("max_result_bytes", 1.5, id="bytes-float"),
        pytest.param("max_result_bytes", True, id="bytes-bool"),
        pytest.param("max_retries", -1, id="retries-negative"),
        pytest.param("max_retries", "", id="retries-empty"),
        pytest.param("max_retries", False, id="retries-bool"),
        pytest.param("max_retries", timedelta(seconds=3), id="retries-delta"),
        pytest.param("default_retry_delay", -0.1, id="delay-negative"),
        pytest.param("default_retry_delay", True, id="delay-bool"),
        pytest.param("default_retry_delay", "nan", id="delay-nan"),
        pytest.param("default_retry_delay", 10**400, id="delay-huge"),
        pytest.param("time_limit", 0, id="limit-0"),
        pytest.param("time_limit", float("inf"), id="limit-inf"),
        pytest.param("result_ttl", -1, id="ttl-for-ever"),
        pytest.param("result_ttl", None, id="ttl-none"),
        pytest.param("failure_ttl", 1.5, id="ttl-fraction"),
        pytest.param("failure_ttl", timedelta(milliseconds=1), id="ttl-delta-fraction"),
        pytest.param("timezone", "Europe/Atlantis", id="timezone-unknown"),
        pytest.param("timezone", "../etc/passwd", id="timezone-path"),
        pytest.param("timezone", "Europe", id="timezone-folder"),
        pytest.param("timezone", None, id="timezone-none"),
        pytest.param("eager", "perhaps", id="eager"),
        pytest.param("carry_headers", ["X Y"], id="header-space"),
        pytest.param("carry_headers", ["Cookie"], id="header-cookie"),
        pytest.param("carry_headers", "X-A,AUTHORIZATION", id="header-authorization"),
        pytest.param("carry_headers", ["proxy-Authorization"], id="header-proxy"),
        pytest.param("carry_headers", ["Proxy_Authorization"], id="header-underscore"),
        pytest.param("carry_headers", [" cookie "], id="header-blanks"),
        pytest.param("status_prefix", "", id="prefix-empty"),
        pytest.param("status_prefix", "/", id="prefix-root"),
        pytest.param("status_prefix", "tasks", id="prefix-no-slash"),
        pytest.param("status_prefix", "/tasks/", id="prefix-slash-at-end"),
        pytest.param("status_prefix", "/<x>", id="prefix-converter"),
        pytest.param("dashboard_prefix", "/a//b", id="prefix-two-slashes"),
        pytest.param("max_streams", -1, id="streams-negative"),
    ],
)
def test_unreadable_value_names_key_and_what_came(name, value):
    key = f"TASKQUEUE_{name.upper()}"
    with pytest.raises(ConfigError, match=f"expected '{key}' to be .*, got ") as caught:
        load(**{name: value})
    shown = repr(value)[:100]
    assert shown in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(ConfigError, match=f"expected '{name}' to be .*, got "):
        load_config({}, {name: value})


@pytest.mark.parametrize(
    ("value", "came"),
    [
        pytest.param([("a", ["ann@example.org"])], "list", id="list"),
        pytest.param('{"a": "ann@example.org', "str: Unterminated", id="bad-json"),
        pytest.param(b"ann@example.org", "bytes", id="bytes"),
    ],
)
def test_nothing_of_a_schedule_is_in_a_message(value, came):
    with pytest.raises(ConfigError) as caught:
        load(beat_schedule=value)
    expected = "expected 'TASKQUEUE_BEAT_SCHEDULE' to be a dict of entries by name"
    assert str(caught.value).startswith(f"{expected}, got a value of type {came}")
    assert "ann" not in str(caught.value)
    assert "***" not in str(caught.value)


def test_message_says_what_was_expected_and_no_more():
    with pytest.raises(ConfigError) as caught:
        load(max_retries="three")
    assert str(caught.value) == (
        "expected 'TASKQUEUE_MAX_RETRIES' to be an integer >= 0 or None, got 'three'"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("amqp://guest@localhost//", "Redis or Valkey only", id="amqp"),
        pytest.param("sqs://", "Redis or Valkey only", id="sqs"),
        pytest.param("embedded://data", "an absolute directory", id="relative"),
        pytest.param("redis://h/x", r"redis://\S*host\[:port\]\[/db\]", id="form"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_what_leads_somewhere(url, words):
    with pytest.raises(ConfigError, match=words):
        load(url=url)


def test_no_key_takes_just_anything():
    taken = []
    for name in NAMES:
        try:
            load(**{name: object()})
        except ConfigError:
            continue
        taken.append(name)
    assert taken == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("url", "REDIS//user:s3cret@host", id="no-scheme"),
        pytest.param("url", "Redis://user:s3cret@host/0", id="scheme"),
        pytest.param("url", "Redis://user:pa@ss/s3cret@host/0", id="not-encoded"),
        pytest.param("url", "Redis://:s3cret@host", id="no-user"),
        pytest.param("url", "Redis://host/0?password=s3cret&db=1", id="query"),
        pytest.param("url", "amqp://user:s3cret@host/0", id="amqp"),
        pytest.param("url", "redis://user:s3cret@host/name", id="database"),
        pytest.param("url", "redis://user:pa/s3cret@host", id="slash"),
        pytest.param("url", ["redis://user:s3cret@host"], id="list"),
        pytest.param("url", b"redis://user:s3cret@host", id="bytes"),
        pytest.param("max_retries", "redis://user:s3cret@host", id="wrong-key"),
        pytest.param("max_retries", "user:s3cret@host", id="wrong-key-no-scheme"),
        pytest.param("queues", "user:s3cret@host", id="queue-detail-no-scheme"),
        pytest.param("queues", "redis://user:s3cret@host", id="queue-detail"),
        pytest.param("routes", {"x": "redis://u:s3cret@host"}, id="route-detail"),
    ],
)
def test_password_of_a_url_is_never_shown(name, value):
    with pytest.raises(ConfigError) as caught:
        load(**{name: value})
    assert "s3cret" not in str(caught.value)
    assert "***" in str(caught.value)
    assert caught.value.__context__ is None


def test_repr_keeps_password_and_schedule_to_itself():
    config = load(
        url="redis://u:s3cret@host", beat_schedule={"a": {"args": ["s3cret"]}}
    )
    assert "s3cret" not in repr(config)


def test_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigError) as caught:
        load(timezone="x" * 10_000)
    assert len(str(caught.value)) < 250


def test_unknown_keyword_lists_the_known():
    with pytest.raises(TypeError, match="status_prefix.*, got max_retry$"):
        load_config({}, {"max_retry": 3})


def test_unknown_key_is_one_warning_with_the_nearest(caplog):
    values = {
        "TASKQUEUE_MAX_RETRY": "hush",
        "CELERY_BROKER_URL": "x",
        "SECRET_KEY": "k",
    }
    with caplog.at_level(logging.DEBUG):
        assert load_config(values, {}) == load_config({}, {})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'TASKQUEUE_MAX_RETRY'" in record.getMessage()
    assert "'TASKQUEUE_MAX_RETRIES'" in record.getMessage()
    assert "hush" not in record.getMessage()


def test_known_keys_warn_of_nothing(caplog):
    load(sign=True, max_retries=1)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"serializer": "pickle"}, "SIGN", id="pickle-unsigned"),
        pytest.param(
            {"serializer": "msgpack", "accept_content": ["json"]},
            "ACCEPT_CONTENT",
            id="serializer-not-accepted",
        ),
        pytest.param({"accept_content": []}, "ACCEPT_CONTENT", id="accept-nothing"),
        pytest.param(
            {"time_limit": 5, "soft_time_limit": 6}, "SOFT_TIME_LIMIT", id="soft-hard"
        ),
        pytest.param(
            {"dashboard_prefix": "/tasks"}, "DASHBOARD_PREFIX", id="one-path-for-two"
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, named):
    with pytest.raises(ConfigError, match=f"expected 'TASKQUEUE_{named}' to .*, got "):
        load(**values)


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        pytest.param({"serializer": "msgpack"}, ("msgpack", "json"), id="msgpack"),
        pytest.param(
            {"serializer": "pickle", "sign": True}, ("pickle", "json"), id="pickle"
        ),
        pytest.param(
            {"serializer": "msgpack", "accept_content": "application/x-msgpack"},
            ("msgpack",),
            id="alias",
        ),
    ],
)
def test_accept_content_follows_the_serializer_unless_given(values, accepted):
    assert load(**values).accept_content == accepted


def test_values_that_do_not_go_together_are_named_as_given():
    with pytest.raises(
        ConfigError, match="'soft_time_limit' .* 'TASKQUEUE_TIME_LIMIT'"
    ):
        load_config({"TASKQUEUE_TIME_LIMIT": 1}, {"soft_time_limit": 2})


def test_soft_limit_may_equal_the_hard_one():
    assert load(time_limit=5, soft_time_limit=5).soft_time_limit == 5


@pytest.mark.parametrize(
    "values", [{"serializer": "msgpack"}, {"accept_content": ["json", "msgpack"]}]
)
def test_msgpack_that_is_not_installed_says_what_to_install(monkeypatch, values):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    wanted = re.escape('pip install "Flask-TaskQueue[msgpack]"')
    with pytest.raises(ConfigError, match=wanted):
        load(**values)


@pytest.mark.parametrize(("sign", "warnings"), [(False, 1), (True, 0)])
def test_pickle_without_signing_warns(caplog, sign, warnings):
    load(accept_content=["json", "pickle"], sign=sign)
    assert len(caplog.records) == warnings
    assert all("TASKQUEUE_ACCEPT_CONTENT" in r.getMessage() for r in caplog.records)


def test_queues_are_the_default_queue_unless_given():
    assert load(default_queue="mail").queues == (QueueRule("mail"),)
    assert load(default_queue="mail", queues=["a"]).queues == (QueueRule("a"),)


def test_router_is_built_from_queues_routes_and_default_queue():
    config = load(
        queues=["default", {"name": "feed_task", "routing_key": "*.feed"}],
        routes='{"jobs.#": {"routing_key": "x.feed"}}',
        default_queue="other",
    )
    assert config.router.queue_for("jobs.a", (), {}, {}) == ("feed_task", "x.feed")
    assert config.router.queue_for("a", (), {}, {}) == ("other", None)


def test_routes_may_be_a_function():
    config = load(routes=lambda name, args, kwargs, options: name)
    assert config.router.queue_for("mail", (), {}, {})[0] == "mail"


def test_app_config_is_neither_changed_nor_shared():
    schedule = {"a": {"task": "x"}}
    app = Flask(__name__)
    app.config.update(TASKQUEUE_BEAT_SCHEDULE=schedule, TASKQUEUE_QUEUES="a,b")
    before = dict(app.config)
    config = load_config(app.config, {})
    assert dict(app.config) == before
    schedule["b"] = {}
    assert config.beat_schedule == {"a": {"task": "x"}}


def test_config_is_frozen():
    config = load_config({}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_retries = 1


def test_environment_variables_of_every_type_are_read(monkeypatch):
    for key, text in {
        "URL": "redis://localhost:1/0",
        "QUEUES": '["a", {"name": "b", "routing_key": "b.*"}]',
        "EAGER": "1",
        "SIGN": "True",
        "LOG_RESULTS": "off",
        "MAX_RETRIES": "null",
        "IMPORTS": "a,b",
        "RESULT_TTL": "60",
    }.items():
        monkeypatch.setenv(f"FLASK_TASKQUEUE_{key}", text)
    app = Flask(__name__)
    app.config.from_prefixed_env()
    config = load_config(app.config, {})
    assert config == load(
        url="redis://localhost:1/0",
        queues=["a", {"name": "b", "routing_key": "b.*"}],
        eager=True,
        sign=True,
        log_results=False,
        max_retries=None,
        imports=["a", "b"],
        result_ttl=60,
    )


@pytest.mark.parametrize(
    ("values", "default", "expected"),
    [
        pytest.param({}, True, True, id="default"),
        pytest.param({"TASKQUEUE_EAGER": False}, True, False, id="bool"),
        pytest.param({"TASKQUEUE_EAGER": "on"}, False, True, id="text"),
        pytest.param({"TASKQUEUE_EAGER": 1}, False, True, id="int"),
    ],
)
def test_read_flag(values, default, expected):
    assert read_flag(values, "TASKQUEUE_EAGER", default) is expected


def test_read_flag_names_its_key():
    with pytest.raises(ConfigError, match="expected 'TASKQUEUE_EAGER' to be true or"):
        read_flag({"TASKQUEUE_EAGER": "perhaps"}, "TASKQUEUE_EAGER", False)


def test_every_key_is_in_the_docs():
    page = CONFIG_PAGE.read_text("utf-8")
    missing = [n for n in NAMES if f"| `TASKQUEUE_{n.upper()}` |" not in page]
    assert missing == []
    assert markdown_table() in page


@pytest.mark.parametrize("name", ["dashboard_prefix"])
def test_a_key_whose_feature_is_not_there_yet_says_so(name):
    rows = markdown_table().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `TASKQUEUE_{name.upper()}` |")]
    assert "| Reserved for a later version: read and checked, without effect." in row
