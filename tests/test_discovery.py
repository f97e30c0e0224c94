"""Which modules with tasks are imported when a worker starts."""

from __future__ import annotations

import itertools
import sys
import types
import typing as t
from pathlib import Path

import pytest
from flask import Blueprint, Flask

from flask_taskqueue import TaskQueue

_numbers = itertools.count(1)


class Tree:
    """Packages of the test's own, below a name nobody has used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = f"discovered{next(_numbers)}"
        self.write("__init__")

    def write(self, module: str, text: str = "") -> None:
        """Make a module: ``mail.tasks`` below the root."""
        path = self.folder.joinpath(self.root, *module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def loaded(self) -> list[str]:
        """The modules below the root that are imported, without its name."""
        start = f"{self.root}."
        return sorted(n.removeprefix(start) for n in sys.modules if n.startswith(start))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Tree]:
    monkeypatch.syspath_prepend(tmp_path)
    tree = Tree(tmp_path)
    yield tree
    for name in [name for name in sys.modules if name.startswith(tree.root)]:
        del sys.modules[name]


def load(import_name: str, *blueprints: str, **given: t.Any) -> None:
    """Discover, and load, for an app and blueprints of these import names."""
    app = Flask(import_name, root_path=".")
    for number, name in enumerate(blueprints):
        app.register_blueprint(Blueprint(f"b{number}", name, root_path="."))
    tq = TaskQueue(app)
    tq.autodiscover_tasks(**given)
    tq.load_tasks(app)


def test_the_apps_package_and_its_blueprints_are_looked_at(tree: Tree):
    for module in ("tasks", "mail.__init__", "mail.tasks", "mail.views", "mail.other"):
        tree.write(module)
    load(tree.root, f"{tree.root}.mail.views")
    assert tree.loaded() == ["mail", "mail.tasks", "tasks"]


def test_the_module_may_have_another_name_or_several(tree: Tree):
    for module in ("tasks", "jobs", "periodic"):
        tree.write(module)
    load(tree.root, related_name=("jobs", "missing", "periodic"))
    assert tree.loaded() == ["jobs", "periodic"]


def test_packages_can_be_named(tree: Tree):
    for module in ("tasks", "mail.__init__", "mail.tasks"):
        tree.write(module)
    load(tree.root, packages=[f"{tree.root}.mail", f"{tree.root}.missing", "missing"])
    assert tree.loaded() == ["mail", "mail.tasks"]


def test_no_packages_are_not_all_packages(tree: Tree):
    tree.write("tasks")
    load(tree.root, packages=[])
    assert tree.loaded() == []


@pytest.mark.parametrize(
    "name", ["nosuch.package", "nosuch", "made_by_hand", "{root}.nosuch.views"]
)
def test_an_app_that_cannot_be_imported_by_its_name_has_no_package(
    tree: Tree, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    tree.write("tasks")
    (tree.folder / "tasks.py").write_text("raise RuntimeError('not of this app')")
    load(name.format(root=tree.root), tree.root)
    assert tree.loaded() == ["tasks"]


def test_the_neighbour_of_a_module_that_stands_alone_is_found(tree: Tree):
    (tree.folder / f"{tree.root}_app.py").touch()
    (tree.folder / f"{tree.root}_jobs.py").touch()
    load(f"{tree.root}_app", related_name=f"{tree.root}_jobs")
    assert f"{tree.root}_jobs" in sys.modules


@pytest.mark.parametrize("module", ["tasks", "mail.__init__"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("import nosuch", ModuleNotFoundError, id="missing-import"),
        pytest.param("from json import nosuch", ImportError, id="missing-name"),
        pytest.param("raise ValueError('own')", ValueError, id="value-error"),
    ],
)
def test_an_error_inside_a_module_is_raised(
    tree: Tree, module: str, text: str, error: type[Exception]
):
    tree.write("mail.tasks")
    tree.write(module, text)
    with pytest.raises(error, match="nosuch|own"):
        load(tree.root, packages=[tree.root, f"{tree.root}.mail"])


def test_imports_must_be_there(tree: Tree):
    tree.write("jobs")
    app = Flask(__name__)
    tq = TaskQueue(app, imports=[f"{tree.root}.jobs"])
    tq.load_tasks(app)
    assert tree.loaded() == ["jobs"]
    other = Flask(__name__)
    tq = TaskQueue(other, imports=[f"{tree.root}.missing"])
    with pytest.raises(ImportError, match="missing"):
        tq.load_tasks(other)
