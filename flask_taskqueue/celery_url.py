"""Celery's broker URL as one of ours."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

_SCHEMES = {"redis+socket": "unix", "socket": "unix", "sentinel": "redis+sentinel"}

TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""redis-py's arguments about TLS that a URL may have."""


def listed(value: t.Any) -> list[str]:
    """The URLs of ``broker_url``.

    :param value: A URL, several separated by ``;``, or a list of them.
    :raises ValueError: It is none of these.
    """
    urls: list[t.Any] = value.split(";") if isinstance(value, str) else [*(value or ())]
    if not urls or not all(isinstance(each, str) for each in urls):
        raise ValueError("expected a URL or a list of URLs")
    return urls


def url(urls: list[str], transport: Mapping[str, t.Any], tls: t.Any = None) -> str:
    """``TASKQUEUE_URL`` for Celery's ``broker_url``.

    :param urls: The first counts; of Sentinels all do.
    :param transport: ``broker_transport_options``.
    :param tls: ``broker_use_ssl``: a flag, or a dict of redis-py's arguments.
    :raises ValueError: It is a Sentinel's without a ``master_name``.
    """
    parts = urlsplit(urls[0] if "://" in urls[0] else f"{urls[0]}://")
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    place, path, query = parts.netloc, parts.path, dict(parse_qsl(parts.query))
    if scheme == "redis+sentinel":
        place, path = _sentinels(urls), f"/{_master(transport)}{path.rstrip('/')}"
        for name, option in (transport.get("sentinel_kwargs") or {}).items():
            query[f"sentinel_{name}"] = str(option)
    elif scheme == "unix":
        query |= {"db": query.pop("virtual_host")} if "virtual_host" in query else {}
    elif scheme in ("redis", "rediss"):
        path = f"/{path.strip('/')}" if path.strip("/") else ""
        scheme = "rediss" if tls else scheme
    query |= _tls({**query, **(tls if isinstance(tls, Mapping) else {})})
    return f"{scheme}://{place}{path}" + (f"?{urlencode(query)}" if query else "")


def _master(transport: Mapping[str, t.Any]) -> str:
    if not transport.get("master_name"):
        raise ValueError("expected a 'master_name' in broker_transport_options")
    return str(transport["master_name"])


def _sentinels(urls: Iterable[str]) -> str:
    """All their hosts, after the login of the first."""
    places = [urlsplit(each).netloc.rpartition("@") for each in urls]
    login, at, _ = places[0]
    return login + at + ",".join(host for _, _, host in places)


def _tls(options: Mapping[str, t.Any]) -> dict[str, str]:
    """redis-py's arguments, as it reads them from a URL."""
    found = {name: options[name] for name in TLS if options.get(name) is not None}
    if "ssl_cert_reqs" in found:  # ssl.CERT_NONE, or its name
        reqs = found["ssl_cert_reqs"]
        name = str(getattr(reqs, "name", reqs))
        found["ssl_cert_reqs"] = name.removeprefix("CERT_").lower()
    return {name: str(value) for name, value in found.items()}
