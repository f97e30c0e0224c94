"""A task's exception in storage, and back."""

from __future__ import annotations

import base64
import builtins
import json
import pickle
import subprocess
import sys
import types
import typing as t
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import errors
from flask_taskqueue.errors import DecodeError, TaskFailed, TimeLimitExceeded
from flask_taskqueue.serializer import CONTENT_TYPES
from flask_taskqueue.stored_error import dump_error, load_error, rebuild_error

HERE = __name__


class Trap:
    """Unpickling one runs code."""

    def __reduce__(self) -> tuple[t.Any, ...]:
        return exec, ("import builtins; builtins.trapped = True",)


class AppError(Exception):
    """As an app defines its own."""


class NeedsTwoError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Holder:
    class InnerError(Exception):
        pass


class ReturnsOther(Exception):
    def __new__(cls, *args):
        return 5 if args else super().__new__(cls)


class NeverMade(BaseException):
    made = 0

    def __init__(self, *args):
        NeverMade.made += 1


@pytest.fixture(autouse=True)
def _this_module_is_loaded(monkeypatch):
    # Under --import-mode=importlib it need not be in sys.modules.
    module = types.ModuleType(HERE)
    module.__dict__.update(globals())
    monkeypatch.setitem(sys.modules, HERE, module)


def stored(**changes):
    return {**load_error(dump_error(ValueError("x"), "")), **changes}


@pytest.mark.parametrize(
    "exc",
    [
        pytest.param(ValueError("bad", 1), id="builtin"),
        pytest.param(AppError({"a": [date(2026, 1, 2), b"\xff"]}), id="own"),
        pytest.param(Holder.InnerError(), id="nested"),
        pytest.param(FileNotFoundError(2, "gone"), id="os-error"),
        pytest.param(KeyError("\ud800"), id="surrogate"),
        pytest.param(TimeLimitExceeded("3 s"), id="of-the-package"),
        pytest.param(errors.WorkerLostError(), id="worker-lost"),
        pytest.param(TaskFailed("pkg.Error", "text"), id="task-failed"),
    ],
)
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_an_exception_comes_back_as_itself(exc, content_type):
    rebuilt = rebuild_error(dump_error(exc, "tb", content_type), [content_type])
    assert type(rebuilt) is type(exc)
    assert rebuilt.args == exc.args


def test_the_stored_form_is_plain_json():
    data = dump_error(AppError("a", date(2026, 1, 2)), "Traceback …")
    assert json.loads(data) == {
        "type": "AppError",
        "module": HERE,
        "qualname": "AppError",
        "message": "('a', datetime.date(2026, 1, 2))",
        "args": ["a", {"__type__": "date", "__value__": "2026-01-02"}],
        "args_type": "json",
        "traceback": "Traceback …",
    }


@pytest.mark.parametrize(
    "exc",
    [
        pytest.param(NeedsTwoError("a", "b"), id="constructor-differs"),
        pytest.param(AppError({1, 2}), id="arguments-are-no-json"),
        pytest.param(AppError("x" * 200_000), id="arguments-too-large"),
        pytest.param(ReturnsOther(), id="makes-something-else"),
    ],
)
def test_what_cannot_be_rebuilt_is_task_failed(exc):
    if isinstance(exc, ReturnsOther):
        exc.args = ("given",)
    rebuilt = rebuild_error(dump_error(exc, ""), ["json"])
    assert type(rebuilt) is TaskFailed
    assert rebuilt.type_name == f"{HERE}.{type(exc).__qualname__}"
    assert rebuilt.text == str(exc)[:10_000]


def test_a_builtin_is_named_without_its_module():
    rebuilt = rebuild_error(dump_error(ValueError({1}), ""), ["json"])
    assert str(rebuilt) == "ValueError: {1}"


def test_arguments_in_a_type_not_accepted_are_not_decoded():
    rebuilt = rebuild_error(dump_error(AppError("x"), "", "msgpack"), ["json"])
    assert type(rebuilt) is TaskFailed
    rebuilt = rebuild_error(dump_error(AppError("x"), ""), ["msgpack"])
    assert type(rebuilt) is TaskFailed


def test_an_exception_is_never_pickled_nor_unpickled():
    accept = ["pickle", "json"]
    assert type(rebuild_error(dump_error(AppError("x"), "", "pickle"), accept)) is (
        AppError
    )
    args = base64.b64encode(pickle.dumps([Trap()])).decode()
    stored = {
        "type": "ValueError", "module": "builtins", "qualname": "ValueError",
        "message": "", "args": args, "args_type": "pickle",
    }  # fmt: skip
    assert type(rebuild_error(stored, accept)) is TaskFailed
    assert not hasattr(builtins, "trapped")


def test_the_packages_own_exceptions_need_no_accepted_type():
    data = dump_error(TimeLimitExceeded("3 s"), "")
    assert type(rebuild_error(data, ["msgpack"])) is TimeLimitExceeded


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        pytest.param("builtins", "SystemExit", id="not-an-Exception"),
        pytest.param("builtins", "KeyboardInterrupt", id="interrupt"),
        pytest.param("builtins", "eval", id="function"),
        pytest.param("builtins", "dict", id="class"),
        pytest.param("subprocess", "Popen", id="class-with-effects"),
        pytest.param("os", "path.join", id="module-inside"),
        pytest.param("builtins", "ValueError.__class__", id="dunder"),
        pytest.param("builtins", "", id="no-name"),
        pytest.param("", "ValueError", id="no-module"),
        pytest.param("flask", "current_app", id="proxy"),
        pytest.param("no_such_module", "Error", id="not-loaded"),
    ],
)
def test_only_exception_classes_are_made(module, qualname):
    data = stored(module=module, qualname=qualname, args=["echo"])
    assert type(rebuild_error(data, ["json"])) is TaskFailed


def test_a_class_that_is_no_exception_is_not_even_tried():
    data = stored(module=HERE, qualname="NeverMade", args=[])
    assert type(rebuild_error(data, ["json"])) is TaskFailed
    assert NeverMade.made == 0


def test_nothing_is_imported():
    code = (
        "import sys\n"
        "from flask_taskqueue.stored_error import rebuild_error\n"
        "data = {'module': 'wave', 'qualname': 'Error', 'args': []}\n"
        "print(type(rebuild_error(data, ['json'])).__name__, 'wave' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.stdout.split() == ["TaskFailed", "False"]


def test_a_lazy_module_is_not_asked(monkeypatch):
    lazy = types.ModuleType("lazy_module")
    asked = []
    lazy.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    data = stored(module="lazy_module", qualname="Error")
    assert type(rebuild_error(data, ["json"])) is TaskFailed
    assert "Error" not in asked


@pytest.mark.parametrize(
    "data",
    [b"", b"Traceback (most recent call last):", b"[]", b"[" * 100_000, b"\xff"],
    ids=lambda data: repr(data[:9]),
)
def test_what_is_not_a_stored_error(data):
    with pytest.raises(DecodeError):
        load_error(data)
    rebuilt = rebuild_error(data, ["json"])
    assert type(rebuilt) is TaskFailed
    assert rebuilt.type_name == "unknown"


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "module", "qualname", "message", "args", "args_type", "traceback"]
        ),
        st.none()
        | st.integers()
        | st.lists(st.text())
        | st.sampled_from(["builtins", "ValueError", "json", "pickle", "a.b"]),
    )
)
def test_a_stored_error_from_anyone_is_an_exception(data):
    encoded = json.dumps(data).encode()
    assert isinstance(rebuild_error(encoded, ["json"]), Exception)
    assert isinstance(rebuild_error(data, ["json"]), Exception)


def test_everything_stored_is_bounded():
    exc = AppError("m" * 20_000, "a" * 200_000)
    found = load_error(dump_error(exc, "start" + "t" * 60_000 + "end"))
    assert len(found["message"]) == 10_000
    assert len(found["traceback"]) == 50_000
    assert found["traceback"].endswith("end")
    assert found["args"] is None


def test_an_exception_without_text_is_stored():
    found = load_error(dump_error(UnprintableError("x"), ""))
    assert found["message"] == "<unprintable UnprintableError>"
