"""Upload a CSV file: a worker summarizes its columns and mails a link to the report."""

from pathlib import Path

from flask import Flask

from flask_taskqueue import TaskQueue, crontab, every

from . import demo, reports, tasks
from .models import db

tq = TaskQueue()
tq.add_periodic_task(crontab(hour=3, minute=0), tasks.clean_up.s(), name="clean-up")
tq.add_periodic_task(every(60), tasks.heartbeat.s(), name="heartbeat")


def create_app() -> Flask:
    """The app, for the web server and for ``flask worker`` alike."""
    app = Flask(__name__)
    app.config.from_mapping(
        DATA_FOLDER=str(Path(app.instance_path, "data")),
        MAIL_HOST="localhost",
        MAIL_PORT=25,
        MAIL_SENDER="reports@example.org",
        MAX_CONTENT_LENGTH=500 * 2**20,
        SQLALCHEMY_DATABASE_URI="sqlite:///reports.db",  # in the instance folder
    )
    app.config.from_prefixed_env()
    Path(app.config["DATA_FOLDER"]).mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    tq.init_app(app)
    app.register_blueprint(reports.blueprint)
    app.register_blueprint(demo.blueprint)
    with app.app_context():
        db.create_all()
    return app
