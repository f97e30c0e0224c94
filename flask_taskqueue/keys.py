"""Every Redis key the package reads or writes: name, type, lifetime.

RQ's keys keep RQ's names and types (rq 2.12). Own keys start with ``tq:``.
The scripts write ``K.job`` for a key's beginning, so that none spells it.
"""

from __future__ import annotations

PREFIXES = {
    # RQ: hash of a job; until its TTL after the end
    "job": "rq:job:",
    # RQ: stream of a job's results; TTL of the job
    "results": "rq:results:",
    # RQ: list of waiting job ids
    "queue": "rq:queue:",
    # RQ: sorted sets of job ids, one per queue
    "wip": "rq:wip:",
    "finished": "rq:finished:",
    "failed": "rq:failed:",
    "deferred": "rq:deferred:",
    "scheduled": "rq:scheduled:",
    "canceled": "rq:canceled:",
    # RQ: records of running executions; TTL 60 s past the last renewal
    "execution": "rq:execution:",
    "executions": "rq:executions:",
    # RQ: set of ids waiting for a job: "rq:job:<id>" + this; and the reverse
    "dependents_suffix": ":dependents",
    "dependencies_prefix": "rq:job::",
    "dependencies_suffix": ":dependencies",
    # RQ: a worker's record; TTL from its last heartbeat
    "worker": "rq:worker:",
    "workers_of": "rq:workers:",
    # RQ: channel of a worker's commands
    "commands": "rq:pubsub:",
    # RQ: hash, a record of its scheduler process; TTL 61 s from its last heartbeat
    "scheduler": "rq:scheduler:",
    # rq-scheduler: hash, a record of its process; TTL its interval and 10 s
    "scheduler_instance": "rq:scheduler_instance:",
    # RQ: string, lock of its scheduler on a queue; its TTL is 61 s, ours 150 s
    "scheduler_lock": "rq:scheduler-lock:",
    # list of ids a waiter, or a purge, moved out of the queue; read before it
    "ready": "tq:ready:",
    # sorted set of ids no worker here can run; score: parked at
    "parked": "tq:parked:",
    # sorted set of a queue's killed jobs whose hooks are still to be called, members
    # "<id>:<execution>"; score: from when somebody may; TTL 7 days from the last
    "aftermath_of": "tq:aftermath:",
    # RQ: set of the ids of a group's jobs
    "group": "rq:group:",
    # channel: the job of this id changed; empty messages
    "changes": "tq:job:",
    # channel: names of workers that answer one ping
    "answers": "tq:answers:",
    # hash: an entry of beat, its definition and what became of it; until removed
    "entry": "tq:entry:",
    # list: an entry's last firings, newest first; until the entry is removed
    "firings": "tq:firings:",
    # set of an app's entry ids, and sorted set of those that wait, by due time: an
    # index, because plain rq-scheduler's entries may fill the head of its set
    "entries": "tq:entries:",
    "due": "tq:due:",
    # string: the name of the beat that looks after an app's entries; TTL 4 s
    "lead": "tq:lead:",
    # string: "done" once the entries of an app's code are written, "begun" before; no
    # TTL, one key per app: a beat that finds none knows that Redis lost its data
    "synced": "tq:synced:",
    # stream; deleted in the script that makes it
    "scratch": "tq:scratch:",
}
"""Beginnings of keys that end in a job id, a queue or another name."""

NAMES = {
    "queues": "rq:queues",  # RQ: set of queue keys
    "workers": "rq:workers",  # RQ: set of worker keys
    "suspended": "rq:suspended",  # RQ: string; while it exists nothing is claimed
    "paused": "tq:paused",  # set of paused queues; until resumed
    "parked_names": "tq:parked",  # set of task names with parked jobs
    # hash: ended jobs with dependents left to look at -> where to go on
    "followups": "tq:followups",
    "aftermath": "tq:aftermath",  # set of queues with killed jobs, see "aftermath_of"
    "groups": "rq:groups",  # RQ: set of names of groups
    "swept": "tq:swept",  # string: time of the last sweep; no TTL, one key
    # string: somebody pruned within the last minute; TTL 60 s, 1 s if there is more
    "pruned": "tq:pruned",
    "wake": "tq:wake",  # channel: an earlier due time was scheduled
    "entries_changed": "tq:entries",  # channel: an entry changed, a lead ended
    # rq-scheduler: sorted set of job ids by due time in epoch seconds; its entries are
    # there until they are over, ours until they are paused or removed
    "scheduler_set": "rq:scheduler:scheduled_jobs",
    # rq-scheduler: string, a lock of its one running pass; ours has a TTL of 600 s
    "scheduler_pass": "rq:scheduler_lock",
}
"""Keys and channels that are whole names."""


def job(job_id: str) -> str:
    """Hash of a job."""
    return PREFIXES["job"] + job_id


def results(job_id: str) -> str:
    """Stream of a job's results."""
    return PREFIXES["results"] + job_id


def queue(name: str) -> str:
    """List of a queue's waiting ids."""
    return PREFIXES["queue"] + name


def ready(name: str) -> str:
    """List of ids that waiters moved out of a queue."""
    return PREFIXES["ready"] + name


def changes(job_id: str) -> str:
    """Channel on which it is told that a job changed."""
    return PREFIXES["changes"] + job_id


def entry(entry_id: str) -> str:
    """Record of an entry of beat."""
    return PREFIXES["entry"] + entry_id


def firings(entry_id: str) -> str:
    """List of an entry's last firings."""
    return PREFIXES["firings"] + entry_id


def entries(app: str) -> str:
    """Set of the ids of an app's entries."""
    return PREFIXES["entries"] + app


def synced(app: str) -> str:
    """Whether the entries of an app's code are written."""
    return PREFIXES["synced"] + app


def due(app: str) -> str:
    """Index of an app's entries that wait, by due time."""
    return PREFIXES["due"] + app


def answers(ping: str) -> str:
    """Channel of the answers to a ping."""
    return PREFIXES["answers"] + ping


def worker(name: str) -> str:
    """Record of a worker."""
    return PREFIXES["worker"] + name


def commands(worker_name: str) -> str:
    """Channel on which a worker listens for commands."""
    return PREFIXES["commands"] + worker_name
