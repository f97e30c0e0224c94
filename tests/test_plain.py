"""Which functions a name of a plain ``rq`` job may stand for."""

from __future__ import annotations

import sys
import types
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskqueue.worker.plain import resolve

SOURCE = """
import os
from os.path import join
from operator import add as plus

def run(): pass
async def later(): pass

class Shop:
    def open(self): pass
    @staticmethod
    def close(): pass
    @classmethod
    def made(cls): pass

value = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    package = tmp_path / "plainjobs"
    package.mkdir()
    (package / "__init__.py").write_text("def top(): pass\n")
    (package / "mail.py").write_text(SOURCE)
    (package / "broken.py").write_text("import plainjobs.nowhere\n")
    (package / "wrong.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "plainjobs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "plainjobs"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    [
        "plainjobs.top", "plainjobs.mail.run", "plainjobs.mail.later",
        "plainjobs.mail.Shop.open", "plainjobs.mail.Shop.close",
        "plainjobs.mail.Shop.made", "plainjobs.mail.Shop",
    ],
)  # fmt: skip
def test_a_modules_own_functions_are_found(name: str):
    found = t.cast(types.FunctionType, resolve(name, ["plainjobs.#"]))
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize(
    "name", ["plainjobs.mail.run", "plainjobs.nowhere.run", "os.system", "", ".", "run"]
)
def test_a_name_that_is_not_admitted_is_not_even_imported(name: str):
    assert resolve(name, ["other.*"]) is None
    assert "plainjobs.mail" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("plainjobs.mail.gone", id="no-attribute"),
        pytest.param("plainjobs.mail.Shop.gone", id="no-method"),
        pytest.param("plainjobs.nowhere.run", id="no-module"),
        pytest.param("nowhere.run", id="no-package"),
        pytest.param("plainjobs.mail.value", id="not-callable"),
        pytest.param("plainjobs.mail.os.system", id="module-of-another"),
        pytest.param("plainjobs.mail.join", id="function-of-another"),
        pytest.param("plainjobs.mail.plus", id="builtin-of-another"),
        pytest.param("plainjobs.mail.run.__class__", id="class-of-function"),
        pytest.param("plainjobs.mail.Shop.open.__globals__.clear", id="deep"),
        pytest.param("builtins.eval.x.y", id="deep-builtin"),
        pytest.param("run", id="no-dot"),
        pytest.param("", id="empty"),
        pytest.param(".plainjobs.top", id="dot-first"),
        pytest.param("..top", id="dots"),
        pytest.param("plainjobs..top", id="dots-inside"),
        pytest.param("plainjobs.mail.", id="dot-last"),
    ],
)
def test_an_admitted_name_of_no_function_is_an_import_error(name: str):
    with pytest.raises(ImportError, match="no module has a function") as caught:
        resolve(name, ["#"])
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("plainjobs.broken.run", ModuleNotFoundError),
        ("plainjobs.wrong.run", ZeroDivisionError),
    ],
)
def test_what_is_wrong_with_its_module_is_raised(name: str, error: type[Exception]):
    with pytest.raises(error) as caught:
        resolve(name, ["plainjobs.#"])
    assert "of its own" not in str(caught.value)
