"""Celery's configuration as ours: the table, the translation, the command."""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import typing as t
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from flask import Flask

from flask_taskqueue import TaskQueue, config, patterns
from flask_taskqueue.beat.entries import read_entry
from flask_taskqueue.celery_routing import task_pattern
from flask_taskqueue.celery_settings import KEYS, NO_COUNTERPART, OPTIONS, name_of
from flask_taskqueue.cli.worker import group as worker_group
from flask_taskqueue.migration import translate

from .commands import runner

ROOT = Path(__file__).parents[1]

# Of Celery 5.7: those its documentation names, and those only its code does.
SETTINGS_OF_CELERY = """
accept_content arangodb_backend_settings azureblockblob_base_path
azureblockblob_connection_timeout azureblockblob_container_name
azureblockblob_read_timeout azureblockblob_retry_increment_base
azureblockblob_retry_initial_backoff_sec azureblockblob_retry_max_attempts
beat_cron_starting_deadline beat_enable_remote_control beat_executable beat_gid
beat_logfile beat_max_loop_interval beat_pidfile beat_remote_control_max_tick_age
beat_schedule beat_schedule_filename beat_scheduler beat_sync_every beat_uid
beat_umask broker_channel_error_retry broker_connection_max_retries
broker_connection_retry broker_connection_retry_on_startup broker_connection_timeout
broker_failover_strategy broker_heartbeat broker_heartbeat_checkrate broker_host
broker_login_method broker_native_delayed_delivery_queue_type broker_password
broker_pool_acquire_timeout broker_pool_limit broker_port broker_read_url
broker_transport broker_transport_options broker_url broker_use_ssl broker_user
broker_vhost broker_write_url cache_backend cache_backend_options
cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path
cassandra_entry_ttl cassandra_keyspace cassandra_options cassandra_port
cassandra_read_consistency cassandra_secure_bundle_path cassandra_servers
cassandra_table cassandra_write_consistency control_exchange control_queue_durable
control_queue_exclusive control_queue_expires control_queue_ttl
cosmosdbsql_collection_name cosmosdbsql_consistency_level cosmosdbsql_database_name
cosmosdbsql_max_retry_attempts cosmosdbsql_max_retry_wait_time
couchbase_backend_settings database_create_tables_at_setup database_engine_callback
database_engine_options database_short_lived_sessions database_table_names
database_table_schemas database_url elasticsearch_max_retries
elasticsearch_retry_on_timeout elasticsearch_save_meta_as_text elasticsearch_timeout
enable_utc event_exchange event_queue_durable event_queue_exclusive
event_queue_expires event_queue_prefix event_queue_ttl event_serializer
events_executable events_gid events_logfile events_pidfile events_uid events_umask
gcs_base_path gcs_bucket gcs_project gcs_ttl imports include
mongodb_backend_settings override_backends redis_backend_credential_provider
redis_backend_health_check_interval redis_backend_use_ssl redis_client_name redis_db
redis_host redis_max_connections redis_password redis_port redis_retry_on_timeout
redis_socket_connect_timeout redis_socket_keepalive redis_socket_timeout
redis_username result_accept_content result_backend result_backend_always_retry
result_backend_base_sleep_between_retries_ms result_backend_max_retries
result_backend_max_sleep_between_retries_ms result_backend_thread_safe
result_backend_transport_options result_cache_max result_chord_expires
result_chord_join_timeout result_chord_retry_interval result_compression
result_exchange result_exchange_type result_expires result_extended
result_failure_expires result_persistent result_serializer s3_access_key_id
s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key
security_cert_store security_certificate security_digest security_key
security_key_password task_acks_late task_acks_on_failure
task_acks_on_failure_or_timeout task_acks_on_timeout
task_allow_error_cb_on_chord_header task_always_eager task_annotations
task_compression task_create_missing_queue_exchange_type
task_create_missing_queue_type task_create_missing_queues task_default_delivery_mode
task_default_exchange task_default_exchange_type task_default_priority
task_default_queue task_default_queue_type task_default_rate_limit
task_default_routing_key task_eager_propagates task_ignore_result
task_inherit_parent_priority task_protocol task_publish_retry
task_publish_retry_policy task_queue_max_priority task_queues
task_reject_on_worker_lost task_remote_tracebacks task_repr_maxlevels
task_retry_on_worker_lost task_routes task_send_sent_event task_serializer
task_soft_time_limit task_store_eager_result task_store_errors_even_if_ignored
task_time_limit task_track_started timezone worker_agent worker_autoscaler
worker_cancel_long_running_tasks_on_connection_loss worker_concurrency
worker_consumer worker_deduplicate_successful_tasks worker_detect_quorum_queues
worker_direct worker_disable_prefetch worker_disable_rate_limits
worker_enable_prefetch_count_reduction worker_enable_remote_control
worker_enable_soft_shutdown_on_idle worker_eta_task_limit worker_executable
worker_gid worker_hijack_root_logger worker_log_color worker_log_datefmt
worker_log_format worker_logfile worker_lost_wait worker_max_memory_per_child
worker_max_tasks_per_child worker_pidfile worker_pool worker_pool_putlocks
worker_pool_restarts worker_pool_start_method worker_prefetch_multiplier
worker_proc_alive_timeout worker_redirect_stdouts worker_redirect_stdouts_level
worker_send_task_events worker_soft_shutdown_timeout worker_state_db
worker_task_log_datefmt worker_task_log_format worker_timer worker_timer_precision
worker_uid worker_umask
""".split()

# One of each kind of renaming, and all that follow no rule.
SPELLINGS = """
broker_url=broker_url BROKER_URL=broker_url CELERY_BROKER_URL=broker_url
CELERY_TASK_ROUTES=task_routes CELERY_ROUTES=task_routes
CELERY_TASK_SERIALIZER=task_serializer CELERY_RESULT_BACKEND=result_backend
CELERY_TIMEZONE=timezone CELERYD_CONCURRENCY=worker_concurrency
CELERYD_TASK_TIME_LIMIT=task_time_limit CELERYD_TIME_LIMIT=task_time_limit
CELERYD_TASK_SOFT_TIME_LIMIT=task_soft_time_limit
CELERYBEAT_SCHEDULE=beat_schedule CELERY_BEAT_SCHEDULE=beat_schedule
CELERY_TASK_RESULT_EXPIRES=result_expires CELERY_RESULT_EXPIRES=result_expires
CELERY_ALWAYS_EAGER=task_always_eager CELERY_TASK_ALWAYS_EAGER=task_always_eager
CELERY_EAGER_PROPAGATES_EXCEPTIONS=task_eager_propagates
CELERY_MAX_CACHED_RESULTS=result_cache_max CELERY_MESSAGE_COMPRESSION=task_compression
CELERY_RESULT_DBURI=database_url CELERY_RESULT_ENGINE_OPTIONS=database_engine_options
CELERY_RESULT_DB_TABLENAMES=database_table_names
CELERY_RESULT_DB_SHORT_LIVED_SESSIONS=database_short_lived_sessions
CELERY_SEND_EVENTS=worker_send_task_events
CELERY_SEND_TASK_SENT_EVENT=task_send_sent_event
CELERYD_WORKER_LOST_WAIT=worker_lost_wait CELERY_WORKER_DIRECT=worker_direct
CELERY_REDIRECT_STDOUTS=worker_redirect_stdouts CELERY_REDIS_HOST=redis_host
CASSANDRA_COLUMN_FAMILY=cassandra_table S3_BUCKET=s3_bucket
BROKER_BACKEND=broker_transport CELERYD_LOG_LEVEL=celeryd_log_level
CELERY_SEND_TASK_ERROR_EMAILS=celery_send_task_error_emails
""".split()


def Queue(name, routing_key="", kind="direct", bindings=(), **more):
    """What of kombu's class counts here."""
    exchange = None if bindings else SimpleNamespace(name=name, type=kind)
    return SimpleNamespace(
        name=name, routing_key=routing_key, exchange=exchange, bindings=bindings, **more
    )


class Named(StrEnum):
    MAIL = "mail"


def binding(routing_key, kind="topic"):
    """What of kombu's class counts here."""
    exchange = SimpleNamespace(name="x", type=kind)
    return SimpleNamespace(routing_key=routing_key, exchange=exchange)


def crontab(minute="*", hour="*", day_of_week="*", day_of_month="*", month="*"):
    """What of Celery's class counts here."""
    return SimpleNamespace(
        _orig_minute=minute,
        _orig_hour=hour,
        _orig_day_of_week=day_of_week,
        _orig_day_of_month=day_of_month,
        _orig_month_of_year=month,
    )


def to_mail(name, args, kwargs, options, task=None):
    """A route function, as Celery calls it."""
    return "mail"


def run(app: Flask, *args: str) -> t.Any:
    return runner(app).invoke(args=["tasks", "migrate-config", *args])


@pytest.fixture
def app():
    app = Flask("migrating")
    TaskQueue(app)
    return app


@pytest.fixture
def celeryconfig(tmp_path, monkeypatch):
    """Writes a module ``celeryconfig``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield (tmp_path / "celeryconfig.py").write_text
    sys.modules.pop("celeryconfig", None)


def executed(text: str) -> dict[str, t.Any]:
    """What the printed Python says."""
    namespace: dict[str, t.Any] = {}
    exec(text, namespace)  # noqa: S102 - it is the command's own output
    return {k: v for k, v in namespace.items() if k.startswith(config.PREFIX)}


@pytest.mark.parametrize("name", SETTINGS_OF_CELERY)
def test_every_setting_of_celery_is_translated_or_explained(name):
    places = [name in KEYS, name in OPTIONS, name in NO_COUNTERPART]
    assert places.count(True) == 1
    assert name_of(name) == name
    assert name_of(f"CELERY_{name.upper()}") == name


@pytest.mark.parametrize("pair", SPELLINGS)
def test_an_old_spelling_is_known(pair):
    spelling, _, name = pair.partition("=")
    assert name_of(spelling) == name


@pytest.mark.parametrize(
    "spelling", ["Broker_Url", "TIMEZONE", "SECRET_KEY", "task_foo", "BROKER_FOO"]
)
def test_what_celery_does_not_read_is_unknown(spelling):
    assert name_of(spelling) is None


def test_every_key_named_exists():
    known = {row.split("`")[1] for row in config.markdown_table().splitlines()[2:]}
    said = " ".join(NO_COUNTERPART.values())
    assert {*KEYS.values(), *re.findall("TASKQUEUE_[A-Z_]+", said)} <= known


def test_every_option_named_is_one_of_flask_worker():
    known = {opt for param in worker_group.params for opt in param.opts}
    assert set(OPTIONS.values()) <= known


CASES = [
    ("broker_url", "redis://:pw@h:1/2", "URL", "redis://:pw@h:1/2"),
    ("broker_url", "redis", "URL", "redis://"),
    ("broker_url", "redis+socket:///r.sock?virtual_host=2", "URL", "unix:///r.sock?db=2"),
    ("broker_url", ["redis://a"], "URL", "redis://a"),
    ("task_default_queue", "mail", "DEFAULT_QUEUE", "mail"),
    ("task_queues", [Queue("a"), Queue("b", "b.#")], "QUEUES",
     ["a", {"name": "b", "routing_key": "b.#"}]),
    ("task_queues", {"b": {"binding_key": "b.*"}, "a": {}}, "QUEUES",
     [{"name": "b", "routing_key": "b.*"}, "a"]),
    ("task_queues", frozenset(["b", "a"]), "QUEUES", ["a", "b"]),
    ("task_queues", [Queue("a", bindings=[binding("x.*"), binding("b")])], "QUEUES",
     [{"name": "a", "routing_key": "b"}, {"name": "a", "routing_key": "x.*"}]),
    ("task_routes", {"m.add": {"queue": "a"}}, "ROUTES", {"m.add": "a"}),
    ("task_routes", {"m.*": {"queue": Queue("a")}}, "ROUTES", {"m.#": "a"}),
    ("task_routes", {"a": {"queue": Named.MAIL}, "b": Named.MAIL}, "ROUTES",
     {"a": "mail", "b": "mail"}),
    ("task_routes", {"m": {"exchange": "e", "routing_key": "a.b"}}, "ROUTES",
     {"m": {"routing_key": "a.b"}}),
    ("task_routes", ([("m.a", "x"), ("m.*", "y")],), "ROUTES",
     {"m.a": "x", "m.#": "y"}),
    ("task_routes", [{"m": "x"}, to_mail], "ROUTES", [{"m": "x"}, to_mail]),
    ("task_routes", f"{__name__}.to_mail", "ROUTES", to_mail),
    ("imports", ("a.tasks",), "IMPORTS", ["a.tasks"]),
    ("include", "a.tasks", "IMPORTS", ["a.tasks"]),
    ("task_serializer", "msgpack", "SERIALIZER", "msgpack"),
    ("task_serializer", "auth", "SIGN", True),
    ("task_serializer", "pickle", "SIGN", True),
    ("accept_content", {"application/json"}, "ACCEPT_CONTENT", ["json"]),
    ("result_accept_content", "msgpack", "ACCEPT_CONTENT", ["json", "msgpack"]),
    ("task_time_limit", 30, "TIME_LIMIT", 30),
    ("task_soft_time_limit", 20.5, "SOFT_TIME_LIMIT", 20.5),
    ("result_expires", timedelta(hours=1), "RESULT_TTL", 3600),
    ("result_failure_expires", 60.0, "FAILURE_TTL", 60),
    ("task_ignore_result", True, "IGNORE_RESULT", True),
    ("timezone", "Asia/Shanghai", "TIMEZONE", "Asia/Shanghai"),
    ("beat_schedule", {"e": {"task": "a", "schedule": 2.0, "args": (1,)}},
     "BEAT_SCHEDULE", {"e": {"task": "a", "schedule": 2.0, "args": (1,)}}),
    ("task_always_eager", True, "EAGER", True),
    ("task_eager_propagates", False, "EAGER_PROPAGATES", False),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value", "key", "expected"), CASES)
def test_a_setting_becomes_a_key_that_is_accepted(setting, value, key, expected):
    done = translate({setting: value})
    assert done.config[f"TASKQUEUE_{key}"] == expected
    assert done.no_counterpart == {}
    config.load_config(done.config, {})


def test_every_setting_with_a_key_has_a_case():
    beside = {"broker_use_ssl", "broker_transport_options"}  # parts of a URL, below
    assert {case[0] for case in CASES} | beside == set(KEYS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"broker_url": "redis://h", "broker_use_ssl": True},
            "rediss://h",
        ),
        (
            {
                "broker_url": "rediss://h/1?ssl_cert_reqs=CERT_NONE",
                "broker_use_ssl": {"ssl_ca_certs": "/ca.pem", "ssl_certfile": None},
            },
            "rediss://h/1?ssl_cert_reqs=none&ssl_ca_certs=%2Fca.pem",
        ),
        (
            {
                "broker_url": "sentinel://:pw@a:1/3;sentinel://:pw@b:2/3",
                "broker_transport_options": {
                    "master_name": "main",
                    "sentinel_kwargs": {"password": "x"},
                },
            },
            "redis+sentinel://:pw@a:1,b:2/main/3?sentinel_password=x",
        ),
    ],
    ids=["tls", "certificates", "sentinel"],
)
def test_a_url_is_put_together(settings, expected):
    done = translate(settings)
    assert done.config == {"TASKQUEUE_URL": expected}
    assert done.no_counterpart == {}


def test_results_in_redis_beside_another_broker_give_the_url():
    done = translate({"broker_url": "amqp://me:pw@h", "result_backend": "redis://r/1"})
    assert done.config == {"TASKQUEUE_URL": "redis://r/1"}
    assert "amqp://me:***@h" in done.no_counterpart["broker_url"]
    assert "that of result_backend" in done.no_counterpart["broker_url"]


NAMES = "a.b a.b.c a.s_x a.s_x.y ab b x.b x.y.b ab.b.c".split()


@pytest.mark.parametrize("pattern", "* a.* a.b.* *.b *b a.s_* a*.b.*".split())
def test_a_route_fits_the_names_it_fits_in_celery(pattern):
    ours = patterns.check_pattern(task_pattern(pattern))
    for name in NAMES:
        if f"{name}.*" != pattern:  # "a.b.#" also fits "a.b"
            # This is how Celery reads a route with "*".
            celerys = re.match(fnmatch.translate(pattern), name) is not None
            assert patterns.matches(ours, name) is celerys, name


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (30.0, 30.0),
        (timedelta(seconds=10), 10.0),
        (SimpleNamespace(run_every=timedelta(minutes=1)), 60.0),
        (crontab(), "* * * * *"),
        (crontab(minute=42, hour=8, day_of_month=11, month=4), "42 8 11 4 *"),
        (crontab("*/5", {20, 8}, "mon-fri"), "*/5 8,20 * * mon-fri"),
        (crontab(0, "8, 12"), "0 8,12 * * *"),
    ],
)
def test_a_schedule_becomes_seconds_or_a_cron_text(schedule, expected):
    entry = {"task": "a", "schedule": schedule}
    done = translate({"CELERYBEAT_SCHEDULE": {"e": entry}})
    made = done.config["TASKQUEUE_BEAT_SCHEDULE"]["e"]
    assert made == {"task": "a", "schedule": expected}
    assert read_entry("e", made, UTC).task == "a"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param(
            crontab(0, 0, day_of_week="fri", day_of_month=13),
            ["2026-02-13T00:00", "2026-03-13T00:00", "2026-11-13T00:00"],
            id="both-days",
        ),
        pytest.param(
            crontab(30, "22-2/2", "sat-mon"),
            ["2026-01-03T00:30", "2026-01-03T02:30", "2026-01-03T22:30"],
            id="over-the-end",
        ),
        pytest.param(
            crontab(0, 8, {0}),
            ["2026-01-04T08:00", "2026-01-11T08:00", "2026-01-18T08:00"],
            id="sunday",
        ),
        pytest.param(
            crontab(0, 0, day_of_month="2-30/2", month="*/6"),
            ["2026-01-02T00:00", "2026-01-04T00:00", "2026-01-06T00:00"],
            id="steps",
        ),
    ],
)
def test_a_crontab_is_due_when_celerys_is(schedule, expected):
    done = translate({"beat_schedule": {"e": {"task": "a", "schedule": schedule}}})
    made = read_entry("e", done.config["TASKQUEUE_BEAT_SCHEDULE"]["e"], UTC)
    due, found = datetime(2026, 1, 1, 12, tzinfo=UTC), []
    for _ in expected:
        due = made.schedule.next_run(due)
        found.append(due)
    assert [due.strftime("%Y-%m-%dT%H:%M") for due in found] == expected


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param({"task": "a", "schedule": 0}, "0.001 s", id="no-interval"),
        pytest.param({"task": "a", "schedule": True}, "schedule", id="flag"),
        pytest.param({"task": "a", "schedule": "at noon"}, "cron text", id="text"),
        pytest.param({"task": 7, "schedule": 3}, "'task'", id="task"),
        pytest.param({"task": "a", "schedule": 3, "args": ("Eric")}, r"\('Eric',\)",
                     id="comma"),
        pytest.param({"task": "a", "schedule": crontab(0, 0, day_of_month=31, month=2)},
                     "date that exists", id="no-such-day"),
    ],
)  # fmt: skip
def test_an_entry_beat_would_refuse_is_left_out_with_its_reason(entry, reason):
    done = translate({"beat_schedule": {"e": entry}})
    assert "TASKQUEUE_BEAT_SCHEDULE" not in done.config
    assert re.search(reason, done.no_counterpart["beat_schedule['e']"])


def test_only_the_part_without_a_counterpart_is_left_out():
    done = translate(
        {
            "CELERY_QUEUES": [Queue("a"), Queue("all", kind="fanout")],
            "CELERYBEAT_SCHEDULE": {
                "dusk": {"task": "a", "schedule": SimpleNamespace(event="dusk")},
                "comma": {"task": "a", "schedule": 3, "args": ("Eric")},
                "text": {"task": "a", "schedule": 3, "options": "queue=a"},
                "fine": {"task": "a", "schedule": 3},
            },
            "CELERY_ACCEPT_CONTENT": ["json", "yaml"],
            "BROKER_URL": "redis://",
            "BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 3600},
        }
    )
    assert done.config["TASKQUEUE_QUEUES"] == ["a"]
    assert list(done.config["TASKQUEUE_BEAT_SCHEDULE"]) == ["fine"]
    assert done.config["TASKQUEUE_ACCEPT_CONTENT"] == ["json"]
    assert list(done.no_counterpart) == [
        "BROKER_TRANSPORT_OPTIONS['visibility_timeout']",
        "CELERY_QUEUES['all']",
        "CELERY_ACCEPT_CONTENT['yaml']",
        "CELERYBEAT_SCHEDULE['dusk']",
        "CELERYBEAT_SCHEDULE['comma']",
        "CELERYBEAT_SCHEDULE['text']",
    ]


@pytest.mark.parametrize(
    ("settings", "part", "reason"),
    [
        ({"task_routes": {"a.b": {"queue": "q", "priority": 3}}},
         "task_routes['a.b']['priority']", "front of the queue"),
        ({"task_routes": ({"a.b": {"queue": "q", "expires": 3}},)},
         "task_routes[0]['a.b']['expires']", r"@tq.task\(expires=…\)"),
        ({"task_routes": {"a.b": {"queue": "q", "serializer": "json"}}},
         "task_routes['a.b']['serializer']", r"@tq.task\(serializer=…\)"),
        ({"task_routes": {"a.b": {"queue": "q", "compression": "gzip"}}},
         "task_routes['a.b']['compression']", "says only where"),
        ({"task_routes": {"a": {"exchange_type": "fanout"}, "b": "q"}},
         "task_routes['a']", "no fanout exchange"),
        ({"task_routes": {"a": {"exchange": "x"}, "b": "q"}},
         "task_routes['a']", "neither a queue nor a routing key"),
        ({"task_routes": {"a": "not:good", "b": "q"}},
         "task_routes['a']", "queue name"),
        ({"task_queues": ["not:good", "q"]}, "task_queues['not:good']", "queue name"),
        ({"task_queues": [7, "q"]}, "task_queues[0]", "expected a queue, got 7"),
        ({"task_queues": [Queue("q", max_priority=9)]},
         "task_queues['q']['max_priority']", "front of the queue"),
        ({"task_queues": [Queue("q", queue_arguments={"x-max-priority": 9})]},
         "task_queues['q']['queue_arguments']", "other brokers"),
        ({"task_queues": {"q": {"consumer_arguments": {"x-priority": 9}}}},
         "task_queues['q']['consumer_arguments']", "other brokers"),
        ({"task_queues": {"q": {"x_new": 1}}},
         "task_queues['q']['x_new']", "other brokers"),
        ({"task_queues": [Queue("q", message_ttl=9.0)]},
         "task_queues['q']['message_ttl']", "expires"),
        ({"task_queues": [Queue("q", bindings=[binding("a"), binding("b", "fanout")])]},
         "task_queues['q']['bindings']['b']", "fanout"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3, "relative": True}}},
         "beat_schedule['e']['relative']", "interval"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": SimpleNamespace(
            run_every=timedelta(3), relative=True)}}},
         "beat_schedule['e']['relative']", "interval"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3, "jitter": 3}}},
         "beat_schedule['e']['jitter']", "no such part"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3,
                                  "options": {"exchange": "x", "expires": 9}}}},
         "beat_schedule['e']['options']['exchange']", "no such option"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3,
                                  "options": {"countdown": 9}}}},
         "beat_schedule['e']['options']['countdown']", "schedule says when"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3,
                                  "options": {"task_id": "e"}}}},
         "beat_schedule['e']['options']['task_id']", "id of its own"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3,
                                  "options": {"priority": 9}}}},
         "beat_schedule['e']['options']['priority']", "front of the queue"),
        ({"beat_schedule": {"e": {"task": "a", "schedule": 3,
                                  "options": {"expires": "x"}}}},
         "beat_schedule['e']['options']['expires']", "expected 'expires'"),
        ({"broker_url": "redis://a;redis://:pw@b"}, "broker_url[1]", "Sentinel"),
        ({"broker_url": "redis://a", "broker_use_ssl": {"ssl_check_hostname": False}},
         "broker_use_ssl['ssl_check_hostname']", "ssl_cert_reqs"),
    ],
)  # fmt: skip
def test_a_part_that_goes_nowhere_is_named_and_the_rest_stays(settings, part, reason):
    done = translate(settings)
    ((name, said),) = done.no_counterpart.items()
    assert name == part
    assert re.search(reason, said)
    assert done.config


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({}, True),
        ({"task_serializer": "msgpack"}, True),
        ({"task_serializer": "yaml"}, True),
        ({"task_serializer": "pickle"}, False),
    ],
)
def test_arguments_the_serializer_refuses_lose_their_entry(more, lost):
    entry = {"task": "a", "schedule": 3, "kwargs": {"window": timedelta(days=1)}}
    done = translate({"beat_schedule": {"e": entry}, **more})
    assert ("TASKQUEUE_BEAT_SCHEDULE" not in done.config) is lost
    said = done.no_counterpart.get("beat_schedule['e']", "")
    assert ("argument 'window'" in said and "timedelta" in said) is lost
    assert ("TASKQUEUE_BEAT_SCHEDULE" in done.notes) is not lost


@pytest.mark.parametrize(
    ("more", "noted"),
    [
        pytest.param({}, False, id="default"),
        pytest.param({"enable_utc": True}, False, id="utc"),
        pytest.param({"enable_utc": False}, True, id="host"),
        pytest.param({"enable_utc": False, "timezone": "UTC"}, False, id="named"),
    ],
)
def test_schedules_in_the_hosts_zone_are_noted(more, noted):
    entry = {"task": "a", "schedule": crontab(0, 0)}
    done = translate({"beat_schedule": {"e": entry}, **more})
    assert ("host's zone" in done.notes.get("TASKQUEUE_TIMEZONE", "")) is noted


@pytest.mark.parametrize("settings", [{}, {"CELERY_ACKS_LATE": False}])
def test_early_acknowledgement_is_noted_as_the_change_it_is(settings):
    assert 'on_worker_lost="fail"' in translate(settings).notes["on_worker_lost"]


def test_late_acknowledgement_is_no_change():
    done = translate({"CELERY_ACKS_LATE": True})
    assert "on_worker_lost" not in done.notes
    assert 'on_worker_lost="fail"' in done.no_counterpart["CELERY_ACKS_LATE"]


def test_the_default_queue_is_noted_where_celerys_own_was_used():
    assert "-Q celery" in translate({}).notes["TASKQUEUE_DEFAULT_QUEUE"]
    notes = translate({"task_default_queue": "celery"}).notes
    assert "TASKQUEUE_DEFAULT_QUEUE" not in notes


def test_routing_keys_without_exchanges_are_noted():
    keyed = {"m": {"exchange": "e", "routing_key": "a.b"}}
    for routes in (keyed, [{"a": "b"}, keyed]):
        said = translate({"task_routes": routes}).notes["TASKQUEUE_ROUTES"]
        assert "no exchanges" in said
    assert "TASKQUEUE_ROUTES" not in translate({"task_routes": {"m": "q"}}).notes


def test_unsigned_pickle_is_said_once_and_in_the_notes(app, caplog):
    app.config["CELERY"] = {"accept_content": ["json", "pickle"], "timezone": "UTC"}
    result = run(app)
    assert executed(result.stdout)["TASKQUEUE_ACCEPT_CONTENT"] == ["json", "pickle"]
    assert result.stdout.count("whoever can write to Redis") == 1
    assert result.stderr == ""
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"task_serializer": "yaml"}, "json, msgpack or pickle"),
        ({"task_routes": SimpleNamespace(route_for_task=to_mail)}, "make a router"),
        ({"task_routes": "nowhere.route"}, "nowhere"),
        ({"task_routes": lambda *call: "a"}, "cannot be imported by a name"),
        ({"broker_url": "sentinel://a"}, "master_name"),
        ({"broker_url": 7}, "TASKQUEUE_URL"),
        ({"result_expires": None}, "nothing is kept for ever"),
        ({"broker_use_ssl": True}, "nothing without a broker_url"),
        ({"worker_pool": "gevent"}, "not there yet"),
        ({"task_rutes": {}}, "nearest is task_routes"),
        ({"worker_prefetch_multiplier": 1}, "when a slot is free"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(settings, reason):
    done = translate(settings)
    assert done.config == {}
    (name,) = settings
    assert re.search(reason, done.no_counterpart[name])


def test_a_limit_above_the_other_is_refused_with_both_names():
    done = translate({"task_time_limit": 5, "task_soft_time_limit": 9})
    assert done.config == {"TASKQUEUE_TIME_LIMIT": 5}
    assert "TASKQUEUE_TIME_LIMIT" in done.no_counterpart["task_soft_time_limit"]


def test_a_setting_in_two_spellings_is_told():
    done = translate({"BROKER_URL": "redis://a", "broker_url": "redis://b"})
    assert done.config == {"TASKQUEUE_URL": "redis://a"}
    assert done.no_counterpart == {"broker_url": "BROKER_URL says this already"}


def test_worker_settings_become_options():
    done = translate(
        {
            "CELERYD_CONCURRENCY": 4,
            "CELERYD_POOL": "solo",
            "CELERYD_MAX_TASKS_PER_CHILD": 100,
            "worker_max_memory_per_child": 200_000,
            "worker_soft_shutdown_timeout": 30.0,
            "CELERYD_LOG_LEVEL": "INFO",
        }
    )
    assert done.options == [
        *("-c", "4"),
        *("-P", "solo"),
        *("--max-tasks-per-child", "100"),
        *("--max-memory-per-child", "195.312"),
        *("--shutdown-timeout", "30.0"),
        *("-l", "INFO"),
    ]


MODULE = """
import re
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

class Queues(StrEnum):
    SLOW = "slow"

def to_mail(name, args, kwargs, options, task=None):
    return "mail" if name == "m.mail" else None

broker_url = "redis://:s3cret@localhost:6379/1"
task_routes = [
    OrderedDict({re.compile(r"feed\\.", re.I): "feed", "web.*": "web"}),
    to_mail,
]
beat_schedule = {
    "e": {
        "task": "m.report",
        "schedule": timedelta(minutes=5),
        "args": (date(2026, 1, 2), Decimal("1.5")),
        "kwargs": {"of": Queues.SLOW, "at": datetime(2026, 1, 2, tzinfo=UTC)},
        "options": {"queue": "slow"},
    }
}
worker_concurrency = 4
result_backend = "redis://localhost/2"
"""


def test_the_printed_python_is_a_configuration_that_works(app, celeryconfig):
    celeryconfig(MODULE)
    result = run(app, "celeryconfig")
    assert result.exit_code == 0
    loaded = config.load_config(executed(result.stdout), {})
    assert loaded.url == "redis://:s3cret@localhost:6379/1"
    queues = {n: loaded.router.queue_for(n, (), {}, {})[0] for n in
              ("FEED.new", "web.a.b", "m.mail", "m.other")}  # fmt: skip
    assert queues == {
        "FEED.new": "feed",
        "web.a.b": "web",
        "m.mail": "mail",
        "m.other": "default",
    }
    assert loaded.beat_schedule["e"] == {
        "task": "m.report",
        "schedule": 300.0,
        "args": (date(2026, 1, 2), Decimal("1.5")),
        "kwargs": {"of": "slow", "at": datetime(2026, 1, 2, tzinfo=UTC)},
        "options": {"queue": "slow"},
    }
    assert "# Start it with: flask worker -c 4\n" in result.stdout
    assert "#   result_backend: jobs and results are in one Redis" in result.stdout


def test_the_page_for_celerys_users_shows_what_is_printed(
    app, celeryconfig, monkeypatch
):
    page = (ROOT / "docs" / "coming-from-celery.md").read_text("utf-8")
    source = page.partition("# celeryconfig.py\n")[2].partition("```")[0]
    shown = page.partition("$ flask tasks migrate-config celeryconfig\n")[2]
    monkeypatch.setitem(sys.modules, "celery", ModuleType("celery"))
    schedules = SimpleNamespace(crontab=crontab)
    monkeypatch.setitem(sys.modules, "celery.schedules", schedules)
    celeryconfig(source)
    assert run(app, "celeryconfig").stdout == shown.partition("```")[0]


def test_json_has_the_same(app, celeryconfig):
    celeryconfig(
        "import re\nfrom datetime import timedelta\n"
        "CELERY_ROUTES = {re.compile('a'): 'b'}\n"
        "CELERY_TASK_RESULT_EXPIRES = timedelta(hours=1)\n"
        "CELERYD_CONCURRENCY = 2\nCELERY_ACKS_LATE = True\nCELERY_QUEUES = ['b']\n"
    )
    result = run(app, "celeryconfig", "--json")
    assert json.loads(result.stdout) == {
        "config": {
            "TASKQUEUE_QUEUES": ["b"],
            "TASKQUEUE_ROUTES": {"re.compile('a')": "b"},
            "TASKQUEUE_RESULT_TTL": 3600,
        },
        "options": ["-c", "2"],
        "no_counterpart": {"CELERY_ACKS_LATE": NO_COUNTERPART["task_acks_late"]},
        "notes": {
            "TASKQUEUE_DEFAULT_QUEUE": translate({}).notes["TASKQUEUE_DEFAULT_QUEUE"],
            "TASKQUEUE_QUEUES": "a worker serves them in this order",
        },
    }


@pytest.mark.parametrize("name", [":Config", ".Config", ":made", ":values", ":celery"])
def test_a_class_an_instance_a_dict_and_a_celery_app_are_read(app, celeryconfig, name):
    celeryconfig(
        "class Config:\n"
        "    CELERY_DEFAULT_QUEUE = 'mail'\n"
        "    def helper(self): ...\n"
        "made = Config()\n"
        "values = {'task_default_queue': 'mail'}\n"
        "class Conf:\n"
        "    def table(self, with_defaults, censored): return values\n"
        "class celery:\n"
        "    conf = Conf()\n"
    )
    printed = run(app, f"celeryconfig{name}").stdout
    assert executed(printed) == {"TASKQUEUE_DEFAULT_QUEUE": "mail"}


@pytest.mark.parametrize(
    "values",
    [
        {"CELERY": {"task_default_queue": "mail"}},
        {"CELERY_DEFAULT_QUEUE": "mail"},
        {"CELERY_TASK_DEFAULT_QUEUE": "mail"},
        {"task_default_queue": "mail"},
    ],
    ids=["dict", "old", "namespaced", "new"],
)
def test_without_an_object_the_apps_own_configuration_is_read(app, values):
    app.config.update(values, S3_BUCKET="the app's", SQLALCHEMY_ECHO=True)
    result = run(app)
    assert executed(result.stdout) == {"TASKQUEUE_DEFAULT_QUEUE": "mail"}
    assert "counterpart" not in result.stdout  # not S3_BUCKET, not CELERY itself


LOSES_A_PART = """
import functools

def make():
    def inner(*a): ...
    return inner

def to_mail(name, *call): ...

partial = functools.partial(to_mail)
task_default_queue = "mail"
task_routes = [{"m.a": "a", "m.b": make()}, lambda *call: "a", partial, to_mail]
beat_schedule = {
    "fine": {"task": "a", "schedule": 3},
    "object": {"task": "a", "schedule": 3, "args": (object(),)},
}
"""


def test_what_cannot_be_written_is_named_and_the_rest_stays(app, celeryconfig):
    celeryconfig(LOSES_A_PART)
    result = run(app, "celeryconfig")
    values = executed(result.stdout)
    assert values["TASKQUEUE_DEFAULT_QUEUE"] == "mail"
    assert values["TASKQUEUE_BEAT_SCHEDULE"] == {"fine": {"task": "a", "schedule": 3}}
    first, second = values["TASKQUEUE_ROUTES"]
    assert first == {"m.a": "a"}
    assert second.__name__ == "to_mail"
    lost = json.loads(run(app, "celeryconfig", "--json").stdout)["no_counterpart"]
    assert list(lost) == [
        "task_routes[0]['m.b']",
        "task_routes[1]",
        "task_routes[2]",
        "beat_schedule['object']",
    ]
    for part, why in lost.items():
        assert f"\n#   {part}: {why}" in result.stdout
    assert "<object object" in lost["beat_schedule['object']"]


def test_json_has_nothing_the_printed_python_lacks(app, celeryconfig):
    celeryconfig(LOSES_A_PART)
    found = json.loads(run(app, "celeryconfig", "--json").stdout)["config"]
    assert found == {
        "TASKQUEUE_DEFAULT_QUEUE": "mail",
        "TASKQUEUE_ROUTES": [{"m.a": "a"}, "celeryconfig.to_mail"],
        "TASKQUEUE_BEAT_SCHEDULE": {"fine": {"task": "a", "schedule": 3}},
    }


def test_a_line_end_in_a_name_stays_in_its_comment(app):
    app.config["CELERY"] = {"a\nraise SystemExit": 1, "task_default_queue": "mail"}
    assert executed(run(app).stdout) == {"TASKQUEUE_DEFAULT_QUEUE": "mail"}


def test_nothing_found_is_exit_code_1(app, celeryconfig):
    celeryconfig("name = 'nothing of Celery'\n")
    for args, place in ((), "app.config"), (("celeryconfig",), "celeryconfig"):
        result = run(app, *args)
        assert result.exit_code == 1
        assert f"{place} has no settings of Celery" in result.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "No module named 'nowhere'"),
        ("celeryconfig:missing", "missing"),
        ("celeryconfig", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_object_that_cannot_be_imported_is_wrong_usage(
    app, celeryconfig, name, said
):
    celeryconfig("x = 1\n" if "missing" in name else "1 / 0\n")
    result = run(app, name)
    assert result.exit_code == 2
    assert said in result.stderr
