"""Runs the Python blocks of one page: a script for :mod:`.test_docs`, which starts it
in an empty folder and writes the blocks to its standard input."""

from __future__ import annotations

import importlib
import json
import sys
import types
import typing as t
from pathlib import Path


def run(page: str, blocks: list[dict[str, t.Any]]) -> None:
    """Run blocks in order, in one namespace."""
    namespace = types.ModuleType("snippets")
    namespace.__file__ = str(Path("snippets.py").resolve())
    sys.modules["snippets"] = namespace
    for block in blocks:
        if block["file"]:
            write(block["file"], block["source"])
        if block["language"] != "python" or is_for_pytest(block["file"]):
            continue
        if block["file"]:
            vars(namespace).update(public(load(block["file"])))
        else:
            # Blank lines before it: a traceback shows the page's own lines.
            source = "\n" * block["line"] + block["source"]
            exec(compile(source, page, "exec"), vars(namespace))  # noqa: S102


def is_for_pytest(file: str) -> bool:
    """Whether pytest is to import it."""
    name = Path(file).name
    return name == "conftest.py" or name.startswith("test_")


def write(file: str, source: str) -> None:
    """Write a block to its file."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def load(file: str) -> types.ModuleType:
    """Import a file by its name below the folder; anew where it was changed."""
    name = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def public(module: types.ModuleType) -> dict[str, t.Any]:
    """The names a module defines or imports."""
    return {name: x for name, x in vars(module).items() if not name.startswith("__")}


if __name__ == "__main__":
    sys.path.insert(0, "")
    sys.dont_write_bytecode = True  # a file may change within a second
    told = json.load(sys.stdin)
    run(told["page"], told["blocks"])
