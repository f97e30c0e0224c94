"""What the extension adds to the app's pages."""

from __future__ import annotations

from flask import Flask


def add_status(app: Flask, prefix: str) -> None:
    """Add the JSON endpoint of jobs below a prefix."""
    from .status import blueprint

    app.register_blueprint(blueprint(), url_prefix=prefix)


def open_status(app: Flask, prefix: str) -> None:
    """Let the endpoint answer what only an authoriser can allow."""
    from .status import open_to_authorised

    open_to_authorised(app, prefix)


def add_pages(app: Flask) -> None:
    """Let the app's templates show how a job is doing."""
    from .pages import blueprint, task_progress

    app.register_blueprint(blueprint())
    app.add_template_global(task_progress)
