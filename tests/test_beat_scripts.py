"""What holds of each change of an entry of beat, on a real server."""

from __future__ import annotations

import typing as t

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from flask_taskqueue.beat import scripts
from flask_taskqueue.beat.scripts import Due

from .entries_in_redis import (
    APP,
    ENTRY,
    LATER,
    PAST,
    Client,
    everything,
    look,
    new,
    put,
    tick,
    trigger,
    waiting,
)
from .plain_schedulers import SET
from .servers import Server, eventually


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: scripts.pause(c, APP, ENTRY), id="pause"),
        pytest.param(lambda c: scripts.resume(c, APP, ENTRY, LATER), id="resume"),
        pytest.param(lambda c: trigger(c, new("x")), id="trigger"),
    ],
)
def test_there_is_no_such_entry(client: Client, change: t.Callable[[Client], int]):
    assert change(client) == scripts.NO_ENTRY
    assert client.keys("*") == []


CHANGES = [
    pytest.param(put, scripts.NOT_A_JOB, id="put"),
    pytest.param(tick, scripts.NOT_A_JOB, id="tick"),
    pytest.param(lambda c: scripts.pause(c, APP, ENTRY), scripts.NOT_A_JOB, id="pause"),
    pytest.param(
        lambda c: scripts.resume(c, APP, ENTRY, LATER), scripts.NOT_A_JOB, id="resume"
    ),
    pytest.param(lambda c: trigger(c, new("x")), scripts.NOT_A_JOB, id="trigger"),
    pytest.param(lambda c: scripts.reindex(c, APP, [ENTRY]), 0, id="reindex"),
    pytest.param(lambda c: look(c).due, (Due(ENTRY, PAST, ""),), id="look"),
]


@pytest.mark.parametrize(("change", "code"), CHANGES)
def test_a_record_of_another_type_is_left_alone(
    client: Client, change: t.Callable[[Client], object], code: object
):
    put(client, "other", first=LATER)
    put(client)
    client.delete(f"tq:entry:{ENTRY}")
    client.set(f"tq:entry:{ENTRY}", "mine")
    assert change(client) == code
    assert client.get(f"tq:entry:{ENTRY}") == b"mine"
    assert waiting(client) == []


def test_a_history_of_another_type_keeps_nothing_back(client: Client):
    put(client)
    client.set(f"tq:firings:{ENTRY}", "mine")
    assert tick(client) == scripts.FIRED
    assert trigger(client, new("now")) == scripts.DONE
    assert client.get(f"tq:firings:{ENTRY}") == b"mine"
    assert waiting(client) == [f"{ENTRY}-{PAST}", "now"]


@pytest.mark.parametrize("key", [SET, f"tq:due:{APP}"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: put(c, fingerprint="f2", rhythm="r2"), id="put"),
        pytest.param(tick, id="tick"),
        pytest.param(look, id="look"),
        pytest.param(lambda c: scripts.pause(c, APP, ENTRY), id="pause"),
        pytest.param(lambda c: scripts.resume(c, APP, ENTRY, LATER), id="resume"),
        pytest.param(lambda c: scripts.remove(c, APP, ENTRY), id="remove"),
        pytest.param(lambda c: scripts.reindex(c, APP, [ENTRY]), id="reindex"),
    ],
)
def test_a_shared_key_of_another_type_is_an_error_that_changes_nothing(
    client: Client, key: str, change: t.Callable[[Client], object]
):
    put(client)
    client.delete(key)
    client.set(key, "mine")
    before = everything(client)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        change(client)
    assert everything(client) == before


def test_a_set_of_entries_of_another_type_changes_nothing(client: Client):
    put(client)
    scripts.pause(client, APP, ENTRY)
    client.delete(f"tq:entries:{APP}")
    client.set(f"tq:entries:{APP}", "mine")
    before = everything(client)
    for change in (
        put,
        look,
        lambda client: scripts.remove(client, APP, ENTRY),
        lambda client: scripts.resume(client, APP, ENTRY, LATER),
    ):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            change(client)
        assert everything(client) == before


def test_a_full_server_fires_nothing_and_keeps_the_due_time(own_server: Server):
    with own_server.client() as client:
        put(client)
        before = everything(client)
        client.config_set("maxmemory", 1)
        for change in (
            tick,
            lambda c: trigger(c, new("x")),
            lambda c: put(c, fingerprint="f2"),
            lambda c: scripts.resume(c, APP, ENTRY, LATER),
        ):
            with pytest.raises(OutOfMemoryError):
                change(client)
        assert everything(client) == before
        # Who leads stays known, and people can still stop an entry.
        assert look(client).due == (Due(ENTRY, PAST, "f1"),)
        assert scripts.pause(client, APP, ENTRY) == scripts.DONE
        assert scripts.remove(client, APP, ENTRY)
        client.config_set("maxmemory", 0)
        put(client)
        assert tick(client) == scripts.FIRED


def test_a_change_is_told_to_all_beats(client: Client):
    changes: dict[str, t.Callable[[], object]] = {
        "created": lambda: put(client),
        "changed": lambda: put(client, fingerprint="f2"),
        "paused": lambda: scripts.pause(client, APP, ENTRY),
        "resumed": lambda: scripts.resume(client, APP, ENTRY, PAST),
        "triggered": lambda: trigger(client, new("x")),
        "removed": lambda: scripts.remove(client, APP, ENTRY),
        "led": lambda: look(client, "one"),
        "stepped down": lambda: scripts.step_down(client, APP, "one"),
    }
    silent = {"led"}
    with client.pubsub() as subscription:
        subscription.subscribe("tq:entries", "end")
        eventually(lambda: subscription.get_message(timeout=1))
        eventually(lambda: subscription.get_message(timeout=1))
        for name, change in changes.items():
            change()
            client.publish("end", name)
            if name not in silent:
                heard = subscription.get_message(timeout=1)
                assert heard["data"] == APP.encode(), name
            assert subscription.get_message(timeout=1)["data"] == name.encode()
