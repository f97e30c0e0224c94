"""Finds modules with tasks: those beside an app's own modules, by their name."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from flask import Flask


def packages_of(app: Flask) -> list[str]:
    """The packages of an app and of its blueprints, each once; ``""`` is the top.

    A package is its own, a module's is where its neighbours are. A name that no
    import finds, as an app may have, has none.
    """
    names = [app.import_name, *(b.import_name for b in app.blueprints.values())]
    packages = [_package_of(name) for name in names]
    return [package for package in dict.fromkeys(packages) if package is not None]


def import_related(package: str, related_name: str) -> None:
    """Import a module of a package, if it is there.

    :raises ImportError: It, or its package, cannot be imported.
    """
    name = f"{package}.{related_name}" if package else related_name
    if _spec_of(name) is not None:
        import_module(name)


def _package_of(name: str) -> str | None:
    if name == "__main__":
        return ""
    spec = _spec_of(name)
    return None if spec is None else spec.parent


def _spec_of(name: str) -> ModuleSpec | None:
    """The spec of a module that an import would find."""
    if name in sys.modules and getattr(sys.modules[name], "__spec__", None) is None:
        return None  # made by hand: find_spec() refuses it
    try:
        return find_spec(name)
    except ModuleNotFoundError as error:
        # A package above may be missing, but not what such a package imports.
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise
