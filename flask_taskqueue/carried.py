"""The values that travel with one job, the form they are stored in, and the contexts
of Flask made of them."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from .errors import DecodeError


@dataclass(frozen=True, slots=True)
class Binding:
    """What decides the URLs that ``url_for()`` builds: a request's URL adapter,
    without the request.

    :param server: Host and port; with subdomain matching the part that
        ``subdomain`` comes before.
    :param root: Path the app is mounted at, ending in a slash.
    :param subdomain: ``None`` with host matching.
    :param method: Of the request: an endpoint may have other rules for ``POST``.
    """

    scheme: str
    server: str
    root: str
    subdomain: str | None = None
    method: str = "GET"

    @classmethod
    def of_adapter(cls, adapter: MapAdapter) -> Binding:
        """The binding of a request's URL adapter."""
        return cls(
            adapter.url_scheme,
            adapter.server_name,
            adapter.script_name,
            adapter.subdomain,
            adapter.default_method,
        )

    @classmethod
    def of_stored(cls, row: object) -> Binding:
        """The binding that :meth:`stored` wrote.

        :raises DecodeError: It is something else.
        """
        if not isinstance(row, dict):
            raise DecodeError("the job's URL binding is not a JSON object")
        values = {"method": "GET", **row}
        names = ("scheme", "server", "root", "subdomain", "method")
        parts = {name: values.get(name) for name in names}
        for name, part in parts.items():
            if not (isinstance(part, str) or (name == "subdomain" and part is None)):
                raise DecodeError(f"the job's URL binding has no text as its {name}")
        return cls(**t.cast("dict[str, t.Any]", parts))

    def stored(self) -> dict[str, str | None]:
        """The same as JSON values."""
        row = {
            "scheme": self.scheme, "server": self.server, "root": self.root,
            "subdomain": self.subdomain,
        }  # fmt: skip
        return row if self.method == "GET" else {**row, "method": self.method}

    def adapter(self, app: Flask) -> MapAdapter:
        """A URL adapter of an app with this binding.

        :raises DecodeError: No host can have this name.
        """
        try:
            return app.url_map.bind(
                self.server, self.root, self.subdomain, self.scheme, self.method
            )
        except (HTTPException, RuntimeError) as error:
            raise DecodeError(f"the job's URL binding: {error!a:.200}") from error


@dataclass(frozen=True, slots=True)
class Carried:
    """What travels with one job.

    :param url: ``None`` where the app's ``SERVER_NAME`` decides.
    :param headers: Request headers, by name.
    :param values: JSON values of carriers, by their names.
    """

    url: Binding | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, t.Any] = field(default_factory=dict)

    @classmethod
    def of_stored(cls, row: Mapping[str, t.Any], headers: Mapping[str, str]) -> Carried:
        """What :meth:`stored` gave.

        :param headers: Those of the row, checked.
        :raises DecodeError: It is something else.
        """
        values = row.get("values", {})
        if not isinstance(values, dict):
            raise DecodeError("the job's carried values are not a JSON object")
        url = Binding.of_stored(row["url"]) if "url" in row else None
        return cls(url, headers, values)

    def stored(self) -> dict[str, t.Any]:
        """The same as JSON values; empty where nothing travels."""
        row: dict[str, t.Any] = {}
        if self.url is not None:
            row["url"] = self.url.stored()
        if self.headers:
            row["headers"] = self.headers
        if self.values:
            row["values"] = self.values
        return row


NOTHING = Carried()
"""What travels with a job that was enqueued outside a request, without carriers."""


def new_context(app: Flask, carried: Carried, request_context: bool) -> t.Any:
    """An app or a request context whose ``url_for()`` follows the binding.

    :raises DecodeError: No host, or no header, can be like this.
    """
    if carried is NOTHING and not request_context:
        return app.app_context()
    bound = carried.url.adapter(app) if carried.url is not None else None
    if not request_context:
        context: t.Any = app.app_context()
    else:
        context = _request_context(app, carried, bound)
        # Without a binding the URLs are those of any other task.
        bound = bound or app.create_url_adapter(None)
    if bound is not None:
        # Both kinds of context, and the one kind of later versions, keep it here;
        # there is no call for it, and a request would bind itself by its Host alone.
        context.url_adapter = bound
    return context


def _request_context(app: Flask, carried: Carried, bound: MapAdapter | None) -> t.Any:
    """A request to ``/`` with the carried headers and nothing else."""
    environ = {}
    if bound is not None:
        root = bound.script_name.rstrip("/")
        environ = {
            "wsgi.url_scheme": bound.url_scheme,
            "HTTP_HOST": bound.get_host(None),
            # WSGI's way to write text (PEP 3333).
            "SCRIPT_NAME": root.encode("utf-8", "replace").decode("latin-1"),
        }
    try:
        context: t.Any = app.test_request_context(
            "/", headers=dict(carried.headers), environ_overrides=environ
        )
    except ValueError as error:
        raise DecodeError(f"the job's carried headers: {error!a:.200}") from error
    # TRUSTED_HOSTS is about what clients say. This host is the app's own word, or
    # was checked in the request that the job was enqueued in.
    context.request.trusted_hosts = context.request.routing_exception = None
    if bound is None and context.url_adapter is None:
        context.url_adapter = app.url_map.bind_to_environ(context.request.environ)
    return context
