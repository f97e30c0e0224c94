"""``flask beat`` on entries: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis
from click.testing import Result
from rq_scheduler import Scheduler

from flask_taskqueue import keys
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat.declared import declared
from flask_taskqueue.beat.entries import entry_id
from flask_taskqueue.beat.syncing import synchronise

from .commands import runner
from .plain_schedulers import SET, WARNINGS, JSONJob, fire_due
from .running import InProcess
from .servers import free_port

Client = t.Any

LATER = datetime(2040, 1, 1, 12, 30)
ENTRY_KEYS = {
    "name", "id", "task", "queue", "schedule", "next", "last_due", "last_at",
    "last_job", "count", "state", "problem", "source", "overlap", "misfire", "grace",
}  # fmt: skip

pytestmark = WARNINGS

SCHEDULE: dict[str, t.Any] = {
    "nightly": {"task": "shop.clean", "schedule": "30 2 * * *", "tz": "Asia/Tokyo"},
    "beat": {"task": "shop.clean", "schedule": 30.0, "args": [7], "overlap": "skip"},
    "off": {"task": "shop.clean", "schedule": 60, "enabled": False},
}


class Site(InProcess):
    """An app with entries, and its command line."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        config = {"TASKQUEUE_BEAT_SCHEDULE": SCHEDULE, **config}
        super().__init__("shop", url, client, **config)
        self.raw: Client = client
        self.tq.task(name="shop.clean")(_clean)
        self.scheduler = Scheduler(connection=client, job_class=JSONJob)

    @property
    def state(self) -> AppState:
        return self.tq.state_of(self.app)

    def begin(self) -> None:
        """Write what the code declares, as a beat does when it starts."""
        found, problems = declared(self.state)
        assert problems == []
        synchronise(self.state, self.client, found)

    def tick(self) -> list[str]:
        """Fire what is due, as a beat does; the ids of the jobs made."""
        return fire_due(self.state, self.client)

    def fire(self, name: str, ago: float = 0.25) -> list[str]:
        """Let an entry be due since so many seconds, and fire it."""
        id = entry_id("shop", name)
        seconds, micro = self.raw.time()
        due = seconds + micro / 1e6 - ago
        self.raw.zadd(SET, {id: due})
        self.raw.zadd("tq:due:shop", {id: due})
        return self.tick()

    def flask(self, *args: str) -> Result:
        """Run ``flask beat``."""
        return runner(self.app).invoke(args=["beat", *args])

    def json(self, *args: str, code: int = 0) -> t.Any:
        """The document a command prints."""
        done = self.flask(*args, "--json")
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout)

    def rows(self) -> dict[str, dict[str, str]]:
        """The table of ``list``: each entry's cells by their heads."""
        head, *rows = lines(self.flask("list"))
        begins = [head.index(word) for word in head.split()]
        ends = [*begins[1:], None]
        found = {}
        for row in rows:
            cells = [row[a:b].strip() for a, b in zip(begins, ends, strict=True)]
            found[cells[0]] = dict(zip(head.split(), cells, strict=True))
        return found


def _clean(shelf: int = 0) -> None:
    """What the entries call."""


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        site.begin()
        yield site


def lines(done: Result) -> list[str]:
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


def test_list_shows_a_table(site: Site):
    site.fire("beat")
    site.tq.schedules.add("mine", "shop.clean", LATER)
    found = site.rows()
    assert list(found) == ["beat", "mine", "nightly", "off"]
    assert found["nightly"]["SCHEDULE"] == "30 2 * * * (Asia/Tokyo)"
    assert found["nightly"]["NEXT"].endswith(" 02:30:00+09:00")
    assert found["mine"] == {
        "NAME": "mine",
        "TASK": "shop.clean",
        "SCHEDULE": "once at 2040-01-01T12:30:00+00:00",
        "NEXT": "2040-01-01 12:30:00+00:00",
        "LAST": "-",
        "COUNT": "0",
        "STATE": "on",
        "SOURCE": "run",
    }
    beat = found["beat"]
    assert (beat["COUNT"], beat["STATE"], beat["SOURCE"]) == ("1", "on", "code")
    assert datetime.fromisoformat(beat["LAST"]).date() == datetime.now(UTC).date()
    assert (found["off"]["STATE"], found["off"]["NEXT"]) == ("disabled", "-")


def test_list_shows_times_without_a_zone_in_the_app_s(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_TIMEZONE="Asia/Tokyo")
    with site.app.app_context():
        site.begin()
        assert site.rows()["beat"]["NEXT"].endswith("+09:00")


def _end(site: Site) -> None:
    site.scheduler.enqueue_at(datetime(2020, 1, 1), "shop.clean", job_id="mine")
    site.flask("import")
    site.tick()


def _unreadable(site: Site) -> None:
    site.raw.hset(keys.entry(entry_id("shop", "mine")), "definition", "?")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        pytest.param(lambda site: None, "on", id="on"),
        pytest.param(lambda site: site.flask("pause", "mine"), "paused", id="paused"),
        pytest.param(
            lambda site: site.tq.schedules.update("mine", enabled=False),
            "disabled",
            id="disabled",
        ),
        pytest.param(
            lambda site: site.scheduler.cancel(entry_id("shop", "mine")),
            "cancelled",
            id="cancelled",
        ),
        pytest.param(_unreadable, "unreadable", id="unreadable"),
    ],
)
def test_list_says_why_an_entry_does_not_fire(
    site: Site, change: t.Callable[[Site], object], state: str
):
    site.tq.schedules.add("mine", "shop.clean", LATER)
    change(site)
    (row,) = (r for r in site.json("list")["entries"] if r["name"] == "mine")
    assert row["state"] == state
    shown = row["problem"] or state
    assert site.rows()["mine"]["STATE"] == shown[:59] + "…" * (len(shown) > 60)
    assert (row["problem"] is not None) is (state == "unreadable")


def test_an_entry_that_is_over_is_left_out_of_the_list_but_can_be_asked_for(
    site: Site,
):
    _end(site)
    assert "mine" not in site.rows()
    assert site.json("list", "mine")["state"] == "over"


def test_a_cancelled_entry_whose_only_time_has_passed_is_over(site: Site):
    site.scheduler.enqueue_at(datetime(2020, 1, 1), "shop.clean", job_id="mine")
    site.flask("import")
    site.scheduler.cancel(entry_id("shop", "mine"))
    assert site.rows()["mine"]["STATE"] == "over"
    site.flask("pause", "mine")
    assert site.rows()["mine"]["STATE"] == "paused"


def test_list_as_json(site: Site):
    (job_id,) = site.fire("beat")
    document = site.json("list")
    assert set(document) == {"entries", "not_in_redis"}
    assert document["not_in_redis"] == []
    beat, nightly, _ = document["entries"]
    assert set(beat) == ENTRY_KEYS
    assert beat["last_job"] == job_id
    for name in ("next", "last_due", "last_at"):
        assert datetime.fromisoformat(beat[name]).utcoffset() == timedelta()
    assert nightly["next"].endswith("T17:30:00.000+00:00")
    assert (beat["schedule"], beat["overlap"], beat["grace"]) == (
        "every 30 s",
        "skip",
        60.0,
    )


def test_what_no_beat_has_written_yet_is_told(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client)
    done = site.flask("list")
    assert len(lines(done)) == 1
    assert done.stderr == (
        "Known to the code only, until a beat starts: nightly, beat, off\n"
    )
    assert site.json("list") == {
        "entries": [],
        "not_in_redis": ["nightly", "beat", "off"],
    }
    done = site.flask("trigger", "nightly")
    assert done.exit_code == 1
    assert "known to the code only" in done.stderr


@pytest.fixture
def fired(site: Site) -> list[str]:
    """Ids of the jobs of an entry that fired, was triggered, fired, and was skipped."""
    (first,) = site.fire("beat", ago=3.4)
    (triggered,) = lines(site.flask("trigger", "beat"))
    site.run_all()
    (second,) = site.fire("beat", ago=0.3)
    assert site.fire("beat", ago=0.1) == []
    site.raw.delete(f"rq:job:{triggered}")
    return [first, triggered, second]


def test_list_of_one_shows_its_last_firings(site: Site, fired: list[str]):
    shown = lines(site.flask("list", "beat"))
    details = dict(line.split(":", 1) for line in shown[: shown.index("")])
    assert details["schedule"].strip() == "every 30 s"
    assert details["state"].strip() == "on"
    assert details["count"].strip() == "3"
    assert "problem" not in details
    head, *rows = (row.split() for row in shown[shown.index("") + 1 :])
    assert head == ["JOB", "DUE", "LATE", "STATE"]
    first, triggered, second = fired
    skipped, *others = rows
    assert (skipped[0], skipped[-1]) == ("-", "skipped")
    assert [(row[0], row[-1]) for row in others] == [
        (second, "PENDING"),
        (triggered, "triggered"),
        (first, "SUCCESS"),
    ]
    assert others[2][3:5] == ["3.4", "s"]
    assert others[1][3] == "-"
    assert others[0][4] == "ms"
    assert 300 <= int(others[0][3]) < 1000


def test_list_of_one_as_json(site: Site, fired: list[str]):
    document = site.json("list", "beat")
    assert set(document) == ENTRY_KEYS | {"firings"}
    skipped, second, triggered, first = document["firings"]
    assert set(first) == {"job_id", "due", "at", "late", "what", "state"}
    assert [first["job_id"], triggered["job_id"], second["job_id"]] == fired
    assert (first["what"], first["state"]) == ("fired", "SUCCESS")
    assert 3.4 <= first["late"] < 4
    at, due = (datetime.fromisoformat(first[name]) for name in ("at", "due"))
    assert (at - due).total_seconds() == pytest.approx(first["late"], abs=0.002)
    assert (triggered["what"], triggered["state"]) == ("triggered", None)
    assert triggered["late"] is None
    assert (skipped["what"], skipped["job_id"]) == ("skipped", None)


def test_list_of_one_shows_20_firings(site: Site):
    for _ in range(21):
        site.flask("trigger", "beat")
    assert len(site.json("list", "beat")["firings"]) == 20


def test_trigger_enqueues_now(site: Site):
    before = site.json("list")["entries"]
    assert site.json("pause", "nightly")["changed"]
    document = site.json("trigger", "nightly")
    assert set(document) == {"entry", "id"}
    assert document["entry"] == "nightly"
    result = site.tq.AsyncResult(document["id"])
    assert (result.name, result.state) == ("shop.clean", "PENDING")
    site.run_all()
    assert result.state == "SUCCESS"
    assert site.json("resume", "nightly")["next"] == before[1]["next"]


def test_a_trigger_whose_arguments_fit_no_longer_is_one_line(
    redis_url: str, client: redis.Redis
):
    Site(redis_url, client).begin()
    later = InProcess("shop", redis_url, client)
    later.tq.task(name="shop.clean")(lambda: None)
    done = runner(later.app).invoke(args=["beat", "trigger", "beat"])
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "too many positional arguments" in line


def test_pause_and_resume_say_what_changed(site: Site):
    assert lines(site.flask("pause", "nightly")) == [
        "nightly is paused: it fires no more until it is resumed."
    ]
    (again,) = lines(site.flask("pause", "nightly"))
    assert again.startswith("nightly was paused already")
    assert site.rows()["nightly"]["STATE"] == "paused"
    (line,) = lines(site.flask("resume", "nightly"))
    assert line.startswith("nightly is resumed: next 2")
    assert line.endswith(" 02:30:00+09:00.")
    (line,) = lines(site.flask("resume", "nightly"))
    assert line.startswith("nightly was not paused: next 2")
    assert site.json("pause", "off") == {
        "entry": "off",
        "paused": True,
        "changed": True,
        "next": None,
    }
    assert site.json("resume", "off") == {
        "entry": "off",
        "paused": False,
        "changed": True,
        "next": None,
    }
    (line,) = lines(site.flask("resume", "off"))
    assert line == "off was not paused: it is disabled."


def test_an_unreadable_entry_can_be_paused_only(site: Site):
    site.tq.schedules.add("mine", "shop.clean", LATER)
    _unreadable(site)
    assert "problem" in site.flask("list", "mine").stdout
    assert lines(site.flask("pause", "mine"))
    for command in ("resume", "trigger"):
        done = site.flask(command, "mine")
        assert (done.exit_code, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "cannot be read" in line


def test_import_says_what_became_of_each(site: Site):
    at = {"interval": 90, "meta": {"owner": "ann"}}
    good = site.scheduler.schedule(LATER, "shop.clean", [7], id="mine", **at)
    bad = site.scheduler.enqueue_at(LATER + timedelta(days=1), "shop.clear")
    dry = site.flask("import", "--dry-run", "--tz", "Asia/Tokyo")
    line, refused = dry.stdout.splitlines()
    assert line == (
        "mine becomes 'mine': shop.clean, every 90 s, next 2040-01-01 21:30:00+09:00;"
        " left out of its meta: owner"
    )
    assert refused.startswith(f"{bad.id} is left: no task 'shop.clear' is registered")
    assert dry.stderr == (
        "1 would be imported, cron texts in Asia/Tokyo; 1 left where they are\n"
    )
    document = site.json("import", code=1)
    assert (document["zone"], document["dry_run"]) == ("UTC", False)
    imported, left = document["entries"]
    assert imported == {
        "id": good.id,
        "imported": True,
        "reason": None,
        "entry": "mine",
        "task": "shop.clean",
        "schedule": "every 90 s",
        "next": "2040-01-01T12:30:00.000+00:00",
        "notes": ["left out of its meta: owner"],
    }
    assert (left["id"], left["imported"], left["entry"]) == (bad.id, False, None)
    assert site.rows()["mine"]["SOURCE"] == "run"
    site.scheduler.cancel(bad.id)
    done = site.flask("import")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("0 imported, cron texts in UTC; 0 left")


def test_import_says_what_lets_it_read_pickled_entries(site: Site):
    pickled = Scheduler(connection=site.raw)
    pickled.schedule(LATER, "shop.clean", [7], id="mine", interval=90)
    done = site.flask("import")
    assert done.exit_code == 1
    assert done.stdout == (
        "mine is left: it is in 'pickle', which TASKQUEUE_ACCEPT_CONTENT does not name:"
        " if you know who made it, run this once with"
        " FLASK_TASKQUEUE_ACCEPT_CONTENT=json,pickle where the app reads FLASK_"
        ' variables, else with TASKQUEUE_ACCEPT_CONTENT = ["json", "pickle"]\n'
    )


def test_check_shows_what_lies_in_the_past_as_over(redis_url: str, client: redis.Redis):
    now = datetime.now(UTC)
    late = {"task": "shop.clean", "schedule": now - timedelta(seconds=30)}
    schedule = {
        "late": late,
        "past": {**late, "grace": 10},
        "off": {**late, "enabled": False},
    }
    site = Site(redis_url, client, TASKQUEUE_BEAT_SCHEDULE=schedule)
    rows = [line.split("  ") for line in lines(site.flask("check"))[2:]]
    shown = {row[0]: row[-1] for row in rows}
    assert shown == {
        "late": f"{now - timedelta(seconds=30):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "+00:00",
        "past": "over",
        "off": "-",
    }
    found = site.json("check")["entries"]
    assert [row["next"] is None for row in found] == [False, True, True]


def test_import_takes_the_app_s_zone_where_none_is_named(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_TIMEZONE="Asia/Tokyo")
    site.scheduler.cron("0 9 * * *", "shop.clean", id="morning")
    (found,) = site.json("import")["entries"]
    assert found["schedule"] == "0 9 * * * (Asia/Tokyo)"


@pytest.mark.parametrize(
    "args",
    [
        ["list", "a", "b"],
        ["trigger"],
        ["pause"],
        ["resume", "a", "b"],
        ["import", "--tz", "Asia/Tokio"],
        ["import", "nightly"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(site: Site, args: list[str]):
    done = site.flask(*args)
    assert done.exit_code == 2, done.output
    assert "'Asia/Tokyo'" in done.stderr or "--tz" not in args


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "x"],
        ["trigger", "x"],
        ["pause", "x"],
        ["resume", "x"],
        ["import"],
    ],
    ids=" ".join,
)
def test_redis_away_is_one_line_and_exit_code_69(client: redis.Redis, args: list[str]):
    site = Site(f"redis://:secret@127.0.0.1:{free_port()}", client)
    done = site.flask(*args)
    assert (done.exit_code, done.stdout) == (69, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: cannot reach redis://:***@127.0.0.1")


def test_every_command_takes_json():
    from flask_taskqueue.cli.beat import group

    assert set(group.commands) > {"list", "trigger", "pause", "resume", "import"}
    for command in group.commands.values():
        options = {o for p in command.params for o in p.opts}
        assert "--json" in options, command.name


def test_an_unknown_entry_is_one_line_and_exit_code_1(site: Site):
    for command in ("list", "trigger", "pause", "resume"):
        done = site.flask(command, "nigtly")
        assert (done.exit_code, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        expected = "Error: there is no entry 'nigtly' (did you mean 'nightly'?)"
        assert line == expected
    assert site.flask("list", "x\x1b").stderr.startswith("Error: there is no entry")
