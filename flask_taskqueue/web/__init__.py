"""What the extension adds to the app's pages."""

from __future__ import annotations

from flask import Flask


def add_status(app: Flask, prefix: str) -> None:
    """Add the JSON endpoint of jobs below a prefix."""
    from .status import blueprint

    app.register_blueprint(blueprint(), url_prefix=prefix)


def add_pages(app: Flask) -> None:
    """Let the app's templates show how a job is doing."""
