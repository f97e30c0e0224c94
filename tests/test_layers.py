"""Modules import downward only, so that each can be read without those above it."""

from __future__ import annotations

import ast
import graphlib
import typing as t
from pathlib import Path

import pytest

import flask_taskqueue

PACKAGE = "flask_taskqueue"
ROOT = Path(flask_taskqueue.__file__).parent

# Lowest first. "" is the package itself, which only re-exports. The extension knows
# the names of the commands, from cli; the commands know the extension.
LAYERS = [
    "errors states keys commands signals hooks coroutines unpatched nearest seldom"
    " _rq worker beat broker worker.pace worker.tokens worker.memory",
    "config parsing content serializer signing stored_error retry patterns discovery"
    " readable routing joblog missing_url beat.epoch beat.zones beat.cron"
    " beat.schedules beat.planning broker.url broker.trouble broker.held"
    " broker.exchange broker.connection broker.embedded broker.guardian",
    "option_values arguments jobinfo carried python_code celery_settings celery_url"
    " celery_routing",
    "options class_options signature inside request context appstate broker.wire"
    " broker.loading broker.scripts",
    "terms",
    "job places beat.entries beat.foreign",
    "announcing links worker.limits worker.alarms worker.plain worker.endings"
    " beat.packing beat.records celery_beat celery_readers migration",
    "producer worker.opening worker.changes worker.execution worker.outcome"
    " worker.joblines"
    " worker.aftermath worker.webhooks worker.callbacks worker.reporter beat.scripts",
    "worker.board worker.line worker.asking worker.notes worker.loop control fleet"
    " inspector counts listing metrics worker.waiting worker.lines worker.neighbours"
    " worker.stacks worker.signalled worker.health worker.notifying worker.watching"
    " worker.forked worker.handover worker.trial worker.wear worker.cpus"
    " worker.startup",
    "result eager dispatch on_commit worker.pools",
    "task named registry worker.succession worker.tally worker.upkeep worker.burial"
    " worker.kills worker.staff worker.overrun beat.listing worker.prefork"
    " worker.solo worker.process worker.threads worker.greenlets",
    "beat.declared beat.firing beat.runtime beat.writing beat.importing",
    "beat.troubles beat.strays beat.setbacks beat.syncing beat.ticking beat.service",
    "worker.embedded_beat worker.orders worker.standing worker.reloading"
    " worker.supervisor",
    "web.describe web.permission web.answers web.openapi web.watching",
    "web.waiting web.events web.status web.pages web.dashboard",
    "web cli",
    "periodic extension",
    "cli.printing cli.migration",
    "cli.worker cli.pools cli.anew cli.beat cli.tasks cli.jobs cli.calling"
    " cli.following cli.masking cli.queues cli.bounds cli.logform cli.fleet cli.code"
    " cli.entries cli.importing cli.terminal testing testing.calls testing.running"
    " testing.fixtures",
    "",
]
LEVEL = {
    name: level for level, row in enumerate(LAYERS) for name in row.split() or [""]
}

Edge = tuple[str, str, int]
"""Importing module, imported module, line."""


def module_name(path: Path) -> str:
    """Name below the package: ``worker.loop``; of a package its own."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def running(node: ast.AST) -> t.Iterator[ast.AST]:
    """All nodes below, without those only a type checker looks at."""
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = list(node.orelse)
    for child in children:
        yield child
        yield from running(child)


def targets(node: ast.AST, package: str) -> t.Iterator[str]:
    """Full names that an import statement names, most specific first.

    :param package: Full name that relative imports start from.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            start = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*start, base] if base else start)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(
    name: str, source: str, modules: t.Container[str], package: bool
) -> set[Edge]:
    """The package's modules that one of them imports, wherever in its code."""
    full = f"{PACKAGE}.{name}".rstrip(".")
    start = full if package else full.rpartition(".")[0]
    edges = set()
    for node in running(ast.parse(source)):
        for target in targets(node, start):
            head, _, rest = target.partition(".")
            if head != PACKAGE:
                continue
            # "from .job import TaskJob" names job.TaskJob; the module is job.
            while rest not in modules:
                rest = rest.rpartition(".")[0]
            edges.add((name, rest, getattr(node, "lineno", 0)))
    return edges


EDGES = {
    edge
    for name, path in MODULES.items()
    for edge in imports(
        name, path.read_text("utf-8"), MODULES, path.name == "__init__.py"
    )
}


def upward(edges: t.Iterable[Edge], level: t.Mapping[str, int]) -> list[str]:
    """One line for each import of a higher layer."""
    return sorted(
        f"{source}:{line} imports {target or PACKAGE}"
        for source, target, line in edges
        if level[target] > level[source]
    )


def order(edges: t.Iterable[Edge]) -> list[str]:
    """The modules, each after what it imports.

    :raises graphlib.CycleError: Some import each other.
    """
    graph: dict[str, set[str]] = {}
    for source, target, _ in edges:
        graph.setdefault(source, set()).add(target)
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_every_module_has_a_layer():
    assert set(MODULES) - set(LEVEL) == set(), "name the new module in LAYERS"


def test_no_module_imports_upward():
    assert upward(EDGES, LEVEL) == []


def test_no_modules_import_each_other():
    assert order(EDGES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("from flask_taskqueue.job import TaskJob", {"job"}, id="name"),
        pytest.param("import flask_taskqueue.job as j", {"job"}, id="module"),
        pytest.param("from .. import job, keys", {"job", "keys"}, id="relative"),
        pytest.param("from . import pools", {"worker.pools"}, id="sibling"),
        pytest.param("from .pools import Pool", {"worker.pools"}, id="of-sibling"),
        pytest.param("from flask_taskqueue import TaskQueue", {""}, id="package"),
        pytest.param("def f():\n    from ..job import TaskJob", {"job"}, id="inner"),
        pytest.param(
            "if t.TYPE_CHECKING:\n from .. import job\nelse:\n from .. import keys",
            {"keys"},
            id="type-checking",
        ),
        pytest.param("import rq.job\nfrom rq import job", set(), id="foreign"),
    ],
)
def test_imports_are_read_from(source, expected):
    modules = {"", "job", "keys", "worker", "worker.loop", "worker.pools"}
    found = imports("worker.loop", source, modules, package=False)
    assert {target for _, target, _ in found} == expected


def test_an_import_of_a_higher_layer_is_told_with_its_line():
    edges = {("keys", "job", 3), ("job", "keys", 5), ("job", "", 7)}
    assert upward(edges, {"keys": 0, "job": 1, "": 2}) == [
        "job:7 imports flask_taskqueue",
        "keys:3 imports job",
    ]


def test_a_cycle_is_found():
    with pytest.raises(graphlib.CycleError):
        order({("a", "b", 1), ("b", "a", 1)})
