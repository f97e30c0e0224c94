"""RQ's groups of jobs on queues that our workers serve."""

from __future__ import annotations

import redis
from rq import Queue
from rq.group import Group
from rq.serializers import JSONSerializer

from flask_taskqueue.broker import scripts
from flask_taskqueue.testing import drain

from .running import InProcess

Client = redis.Redis


def double(x: int) -> int:
    return x + x


def make(client: Client, name: str, count: int = 3) -> Group:
    """A group of jobs that wait."""
    queue = Queue(connection=client, serializer=JSONSerializer)
    group = Group.create(connection=client, name=name)
    rows = [Queue.prepare_data(double, (n,)) for n in range(count)]
    group.enqueue_many(queue=queue, job_datas=rows)
    return group


def members(client: Client) -> dict[str, set[str]]:
    """Ids of each group's jobs, by its name: what is stored."""
    return {
        key.decode().removeprefix("rq:group:"): {
            i.decode() for i in client.smembers(key)
        }
        for key in client.keys("rq:group:*")
    }


def names(client: Client) -> set[str]:
    return {name.decode() for name in client.smembers("rq:groups")}


def prune(client: Client) -> int:
    client.delete("tq:pruned")
    return scripts.prune(client, most=1000)[0]


def test_rq_shows_what_became_of_a_groups_jobs(redis_url: str, client: Client):
    site = InProcess(
        __name__, redis_url, client, TASKQUEUE_IMPORTABLE=[f"{__name__}.*"]
    )
    make(client, "one")
    assert drain(site.app) == 3
    # RQ's group knows no serializer: results are read by it, not by its class.
    found = members(client)["one"]
    assert {
        job.get_status().value for job in Group.fetch("one", client).get_jobs()
    } == {"finished"}
    assert {job.id for job in Group.fetch("one", client).get_jobs()} == found
    assert prune(client) == 0
    assert members(client) == {"one": found}


def test_what_is_gone_leaves_its_group_as_rqs_worker_does_it(client: Client):
    kept, thinned, gone = (make(client, name) for name in ("kept", "thinned", "gone"))
    client.sadd("rq:groups", "never-filled")
    (lost, *_) = members(client)["thinned"]
    for job_id in (lost, *members(client)["gone"]):
        client.delete(f"rq:job:{job_id}")
    before = {key: client.dump(key) for key in client.keys("rq:group*")}
    Group.clean_registries(connection=client)
    by_rq = members(client), names(client)
    for key, value in before.items():
        client.restore(key, 0, value, replace=True)
    assert (members(client), names(client)) != by_rq
    assert prune(client) == 4
    assert (members(client), names(client)) == by_rq
    assert by_rq[1] == {kept.name, thinned.name}
    assert gone.name not in members(client)


def test_prune_looks_at_so_many_jobs_of_groups_at_once_and_at_all_in_time(
    client: Client,
):
    for name in ("large", "larger"):
        client.sadd("rq:groups", name)
        client.sadd(f"rq:group:{name}", *(f"{name}-{n}" for n in range(4000)))
    removed = [prune(client)]
    while names(client):
        removed.append(prune(client))
        assert max(removed) <= 3000
        assert len(removed) < 9
    assert sum(removed) == 8000


def test_prune_bears_keys_of_another_type(client: Client):
    client.sadd("rq:groups", "odd")
    client.set("rq:group:odd", "x")
    assert prune(client) == 0
    client.delete("rq:groups")
    client.set("rq:groups", "x")
    assert prune(client) == 0
