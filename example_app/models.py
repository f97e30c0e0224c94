"""Reports, in SQLite."""

import typing as t
from datetime import UTC, datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the models."""


db = SQLAlchemy(model_class=Base)


class Report(Base):
    """An uploaded file and, once the job of the same id has ended, what is in it."""

    __tablename__ = "report"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    email: Mapped[str]
    path: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    rows: Mapped[int | None]
    columns: Mapped[list[dict[str, t.Any]]] = mapped_column(JSON, default=list)
