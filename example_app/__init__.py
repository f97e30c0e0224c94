"""Upload a CSV file, have a worker summarize its columns, look at the numbers."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from . import demo, views
from .models import db
from .tasks import tq


def create_app() -> Flask:
    """The application, for the web server and for ``flask worker`` alike."""
    app = Flask(__name__)
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI="sqlite:///reports.db",  # in the instance folder
        DATA_FOLDER=str(Path(app.instance_path, "data")),
        MAX_CONTENT_LENGTH=500 * 2**20,
    )
    app.config.from_prefixed_env()
    Path(app.config["DATA_FOLDER"]).mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    tq.init_app(app)
    app.register_blueprint(views.blueprint)
    app.cli.add_command(demo.demo)
    with app.app_context():
        db.create_all()
    return app
