"""Every setting of Celery 5.7: our key, our option, or why there is neither."""

from __future__ import annotations

import typing as t

KEYS = {
    "broker_url": "TASKQUEUE_URL",
    "broker_use_ssl": "TASKQUEUE_URL",
    "broker_transport_options": "TASKQUEUE_URL",
    "task_default_queue": "TASKQUEUE_DEFAULT_QUEUE",
    "task_queues": "TASKQUEUE_QUEUES",
    "task_routes": "TASKQUEUE_ROUTES",
    "imports": "TASKQUEUE_IMPORTS",
    "include": "TASKQUEUE_IMPORTS",
    "task_serializer": "TASKQUEUE_SERIALIZER",
    "accept_content": "TASKQUEUE_ACCEPT_CONTENT",
    "result_accept_content": "TASKQUEUE_ACCEPT_CONTENT",
    "task_time_limit": "TASKQUEUE_TIME_LIMIT",
    "task_soft_time_limit": "TASKQUEUE_SOFT_TIME_LIMIT",
    "result_expires": "TASKQUEUE_RESULT_TTL",
    "result_failure_expires": "TASKQUEUE_FAILURE_TTL",
    "task_ignore_result": "TASKQUEUE_IGNORE_RESULT",
    "timezone": "TASKQUEUE_TIMEZONE",
    "beat_schedule": "TASKQUEUE_BEAT_SCHEDULE",
    "task_always_eager": "TASKQUEUE_EAGER",
    "task_eager_propagates": "TASKQUEUE_EAGER_PROPAGATES",
}
"""Settings that have a configuration key of ours."""

OPTIONS = {
    "worker_concurrency": "-c",
    "worker_pool": "-P",
    "worker_max_tasks_per_child": "--max-tasks-per-child",
    "worker_max_memory_per_child": "--max-memory-per-child",
    "worker_soft_shutdown_timeout": "--shutdown-timeout",
    "celeryd_log_level": "-l",
}
"""Settings that are an option of ``flask worker``."""

Lost: t.TypeAlias = dict[tuple[object, ...], str]
"""Reasons by the part of a value that has no counterpart: its keys and indexes."""

_NOT_YET = "not there yet"
_FIXED = "connections have fixed time-outs, and reconnect by themselves"
_URL = "write it into TASKQUEUE_URL: redis://user:password@host:port/db"
_ONE_REDIS = "jobs and results are in one Redis, the one TASKQUEUE_URL names"
_NO_EXCHANGE = "there is no exchange: TASKQUEUE_QUEUES holds the routing keys"
NO_AMQP = "Redis or Valkey only: this is about other brokers"
PRIORITY = (
    "priority is 0, or above 0 for the front of the queue; for classes of urgency"
    " list queues in that order in TASKQUEUE_QUEUES"
)
_SUPERVISED = "systemd, Docker or Kubernetes starts the process and keeps its output"
_LOGGING = "the app's own logging setup decides"
_BUILT_IN = "always so"
_NO_EVENTS = "nothing is broadcast: a job's state is read from Redis"
_NO_CHORDS = f"chords are {_NOT_YET}"
_NO_PREFETCH = "a worker takes a job when a slot is free"
_POOL = "the pool's own business"
_BEAT = "beat keeps its state in Redis, and needs no file"
_LOOKS = "beat looks when an entry is due, and when one is changed"
_SIGN = "TASKQUEUE_SIGN signs jobs and results with a key from the app's SECRET_KEY"

_REASONS = (
    (_ONE_REDIS, "result_backend broker_read_url broker_write_url override_backends"),
    (_ONE_REDIS, "result_backend_transport_options redis_backend_use_ssl"),
    (_ONE_REDIS, "cache_backend cache_backend_options couchbase_backend_settings"),
    (_ONE_REDIS, "arangodb_backend_settings mongodb_backend_settings"),
    (_ONE_REDIS, "cassandra_entry_ttl cassandra_keyspace cassandra_port"),
    (_ONE_REDIS, "cassandra_read_consistency cassandra_servers cassandra_options"),
    (_ONE_REDIS, "cassandra_bundle_path cassandra_secure_bundle_path cassandra_table"),
    (_ONE_REDIS, "cassandra_write_consistency cassandra_auth_provider"),
    (_ONE_REDIS, "cassandra_auth_kwargs s3_access_key_id s3_secret_access_key"),
    (_ONE_REDIS, "s3_bucket s3_base_path s3_endpoint_url s3_region gcs_bucket"),
    (_ONE_REDIS, "gcs_project gcs_base_path gcs_ttl azureblockblob_container_name"),
    (_ONE_REDIS, "azureblockblob_retry_initial_backoff_sec azureblockblob_base_path"),
    (_ONE_REDIS, "azureblockblob_retry_increment_base azureblockblob_read_timeout"),
    (_ONE_REDIS, "azureblockblob_retry_max_attempts azureblockblob_connection_timeout"),
    (_ONE_REDIS, "cosmosdbsql_database_name cosmosdbsql_collection_name"),
    (_ONE_REDIS, "cosmosdbsql_consistency_level cosmosdbsql_max_retry_attempts"),
    (_ONE_REDIS, "cosmosdbsql_max_retry_wait_time elasticsearch_retry_on_timeout"),
    (_ONE_REDIS, "elasticsearch_max_retries elasticsearch_timeout database_url"),
    (_ONE_REDIS, "elasticsearch_save_meta_as_text database_engine_options"),
    (_ONE_REDIS, "database_engine_callback database_short_lived_sessions"),
    (_ONE_REDIS, "database_table_schemas database_table_names"),
    (_ONE_REDIS, "database_create_tables_at_setup"),
    (_URL, "broker_host broker_port broker_user broker_password broker_vhost"),
    (_URL, "redis_host redis_port redis_db redis_username redis_password"),
    (_URL, "redis_backend_credential_provider broker_transport"),
    (_FIXED, "broker_connection_timeout broker_connection_retry broker_heartbeat"),
    (_FIXED, "broker_connection_retry_on_startup broker_connection_max_retries"),
    (_FIXED, "broker_channel_error_retry broker_heartbeat_checkrate broker_pool_limit"),
    (_FIXED, "broker_pool_acquire_timeout redis_max_connections redis_client_name"),
    (_FIXED, "redis_socket_timeout redis_socket_connect_timeout"),
    (_FIXED, "redis_retry_on_timeout redis_socket_keepalive"),
    (_FIXED, "redis_backend_health_check_interval result_backend_always_retry"),
    (_FIXED, "result_backend_max_sleep_between_retries_ms result_backend_max_retries"),
    (_FIXED, "result_backend_base_sleep_between_retries_ms"),
    (
        "Sentinel does this: redis+sentinel:// in TASKQUEUE_URL",
        "broker_failover_strategy",
    ),
    (NO_AMQP, "broker_login_method broker_native_delayed_delivery_queue_type"),
    (NO_AMQP, "task_default_delivery_mode task_default_queue_type task_protocol"),
    (NO_AMQP, "task_create_missing_queue_type worker_detect_quorum_queues"),
    (_NO_EXCHANGE, "task_default_exchange task_default_exchange_type"),
    (_NO_EXCHANGE, "task_create_missing_queue_exchange_type result_exchange"),
    (_NO_EXCHANGE, "result_exchange_type"),
    (
        "a key for every call leads to one queue: name it in TASKQUEUE_DEFAULT_QUEUE",
        "task_default_routing_key",
    ),
    (
        "a queue is made when something is put into it",
        "task_create_missing_queues",
    ),
    (
        PRIORITY,
        "task_default_priority task_queue_max_priority task_inherit_parent_priority",
    ),
    (
        "a job is done when its outcome is stored, and runs again if its worker is"
        ' lost; @tq.task(on_worker_lost="fail") for one that must not repeat',
        "task_acks_late task_reject_on_worker_lost task_retry_on_worker_lost",
    ),
    (
        "a job that fails or is out of time has ended",
        "task_acks_on_failure_or_timeout task_acks_on_failure task_acks_on_timeout",
    ),
    (
        "a result is stored once: a worker that lost its job cannot overwrite it",
        "worker_deduplicate_successful_tasks",
    ),
    ("write options at the decorator: @tq.task(time_limit=…)", "task_annotations"),
    (f"rate limits are {_NOT_YET}", "task_default_rate_limit"),
    (f"rate limits are {_NOT_YET}", "worker_disable_rate_limits"),
    (
        "with Redis away a call fails within 2 s with BrokerUnavailable",
        "task_publish_retry task_publish_retry_policy",
    ),
    (
        "arguments are compressed above 1 KB, results never",
        "task_compression result_compression",
    ),
    ("results are written by TASKQUEUE_SERIALIZER, too", "result_serializer"),
    (
        "times are UTC; a naive eta is UTC, and TASKQUEUE_TIMEZONE is for schedules",
        "enable_utc",
    ),
    (_BUILT_IN, "task_track_started task_store_eager_result result_extended"),
    (_BUILT_IN, "result_persistent task_store_errors_even_if_ignored"),
    (
        "the traceback is stored as text: result.traceback",
        "task_remote_tracebacks",
    ),
    ("nothing is cached in a process", "result_cache_max result_backend_thread_safe"),
    ("arguments are never logged above DEBUG", "task_repr_maxlevels"),
    (_NO_CHORDS, "result_chord_retry_interval result_chord_join_timeout"),
    (_NO_CHORDS, "result_chord_expires task_allow_error_cb_on_chord_header"),
    (_SIGN, "security_certificate security_cert_store security_key"),
    (_SIGN, "security_key_password security_digest"),
    (_NO_EVENTS, "event_queue_expires event_queue_ttl event_queue_prefix"),
    (_NO_EVENTS, "event_queue_exclusive event_queue_durable event_serializer"),
    (_NO_EVENTS, "event_exchange task_send_sent_event worker_send_task_events"),
    (_NO_EVENTS, "control_queue_ttl control_queue_expires control_queue_exclusive"),
    (_NO_EVENTS, "control_queue_durable control_exchange worker_enable_remote_control"),
    (_NO_PREFETCH, "worker_prefetch_multiplier worker_disable_prefetch"),
    (_NO_PREFETCH, "worker_enable_prefetch_count_reduction"),
    ("a job with an eta waits in Redis, not in a worker", "worker_eta_task_limit"),
    ("what is revoked stands in Redis", "worker_state_db"),
    (
        "a child that dies is replaced at once; a lost worker's jobs run elsewhere"
        " after about 12 s",
        "worker_lost_wait worker_proc_alive_timeout",
    ),
    (
        "jobs go on while Redis is away; one whose lease is lost is stopped",
        "worker_cancel_long_running_tasks_on_connection_loss",
    ),
    (
        "TERM waits for running jobs, then gives them back",
        "worker_enable_soft_shutdown_on_idle",
    ),
    (
        f"autoscaling is {_NOT_YET}: start more workers, or set -c",
        "worker_autoscaler",
    ),
    ("name a queue for it: flask worker -Q NAME", "worker_direct"),
    (_POOL, "worker_agent worker_consumer worker_pool_putlocks worker_pool_restarts"),
    (_POOL, "worker_pool_start_method worker_timer worker_timer_precision"),
    (_LOGGING, "worker_hijack_root_logger worker_log_color worker_log_datefmt"),
    (_LOGGING, "worker_log_format worker_task_log_datefmt worker_task_log_format"),
    (
        "print() goes to the worker's stdout; get_task_logger names the job",
        "worker_redirect_stdouts worker_redirect_stdouts_level",
    ),
    (_SUPERVISED, "worker_executable worker_gid worker_logfile worker_pidfile"),
    (_SUPERVISED, "worker_uid worker_umask beat_executable beat_gid beat_logfile"),
    (_SUPERVISED, "beat_pidfile beat_uid beat_umask events_executable events_gid"),
    (_SUPERVISED, "events_logfile events_pidfile events_uid events_umask"),
    (_SUPERVISED, "celeryd_log_file celerybeat_log_file celerybeat_log_level"),
    (_BEAT, "beat_scheduler beat_schedule_filename beat_sync_every"),
    (_LOOKS, "beat_max_loop_interval"),
    (
        "flask beat list tells what beat did and will do",
        "beat_enable_remote_control beat_remote_control_max_tick_age",
    ),
    (
        'an entry says it: {"misfire": "skip", "grace": seconds}',
        "beat_cron_starting_deadline",
    ),
    ("Celery 4 dropped it", "celery_send_task_error_emails celeryd_force_execv"),
    ("Celery 4 dropped it", "celery_task_error_whitelist celeryd_eta_scheduler"),
    ("Celery 4 dropped it", "celeryd_eta_scheduler_precision celery_backend"),
    ("Celery 4 dropped it", "celery_broadcast_queue celery_broadcast_exchange"),
    ("Celery 4 dropped it", "celery_amqp_task_result_expires celerymon_log_format"),
)

NO_COUNTERPART = {name: reason for reason, names in _REASONS for name in names.split()}
"""Settings without one, and why, or what is there instead."""

KNOWN = frozenset({*KEYS, *OPTIONS, *NO_COUNTERPART})

_RENAMED = {
    "broker_backend": "broker_transport",
    "cassandra_column_family": "cassandra_table",
    "celery_eager_propagates_exceptions": "task_eager_propagates",
    "celery_max_cached_results": "result_cache_max",
    "celery_message_compression": "task_compression",
    "celery_result_db_short_lived_sessions": "database_short_lived_sessions",
    "celery_result_db_table_names": "database_table_names",
    "celery_result_db_tablenames": "database_table_names",
    "celery_result_dburi": "database_url",
    "celery_result_engine_options": "database_engine_options",
    "celery_send_events": "worker_send_task_events",
    "celery_send_task_sent_event": "task_send_sent_event",
    "celery_task_result_expires": "result_expires",
    "celeryd_worker_lost_wait": "worker_lost_wait",
}
"""Old names, in lower case, that follow no rule."""

_PREFIXES = {
    "celery_": ("", "task_", "worker_"),
    "celeryd_": ("worker_", "task_", ""),
    "celerybeat_": ("beat_",),
    "broker_": ("broker_",),
    "cassandra_": ("cassandra_",),
    "s3_": ("s3_",),
}
"""Beginning of an upper-case name, and what a name of today has in its place."""


def name_of(spelling: str) -> str | None:
    """Today's name of a setting.

    :param spelling: As Celery reads it: ``task_routes``, ``CELERY_TASK_ROUTES`` or
        ``CELERY_ROUTES``.
    :return: ``None`` if it is none of Celery's.
    """
    lower = spelling.lower()
    if spelling == lower:
        return lower if lower in KNOWN else None
    if spelling != spelling.upper():
        return None
    if lower in _RENAMED or (lower in KNOWN and lower.startswith("celery")):
        return _RENAMED.get(lower, lower)
    for old, new in _PREFIXES.items():
        if lower.startswith(old):
            rest = lower.removeprefix(old)
            return next((p + rest for p in new if p + rest in KNOWN), None)
    return None
