"""Signs stored bytes with the app's secret key, and verifies them."""

from __future__ import annotations

import hashlib
import typing as t

import itsdangerous

from .errors import BadSignature, ConfigError


class Signer:
    """An HMAC-SHA256 over several pieces of data at once.

    The key is derived from the app's, so a signature made here is of no use
    elsewhere in the app (sessions, tokens), nor one from there here.

    :param secret_keys: ``SECRET_KEY``, then ``SECRET_KEY_FALLBACKS``: the first
        signs, all of them verify.
    :raises ConfigError: There is no key, or one of them is empty.
    """

    def __init__(self, secret_keys: t.Sequence[str | bytes | None]) -> None:
        if isinstance(secret_keys, str | bytes):
            raise TypeError("expected 'secret_keys' to be a list of keys, got one key")
        if not secret_keys or not secret_keys[0]:
            raise ConfigError("TASKQUEUE_SIGN needs SECRET_KEY, which is not set")
        keys = [
            key.encode() if isinstance(key, str) else key
            for key in secret_keys
            if key and isinstance(key, str | bytes)
        ]
        # Why: with an empty fallback anyone could sign.
        if len(keys) != len(secret_keys):
            raise ConfigError(
                "expected SECRET_KEY and SECRET_KEY_FALLBACKS to be non-empty text"
                " or bytes (TASKQUEUE_SIGN)"
            )
        self._signer = itsdangerous.Signer(
            keys[::-1],  # itsdangerous signs with the last
            salt=b"flask-taskqueue",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def sign(self, *parts: bytes) -> bytes:
        """The signature of these pieces, in this order, as ASCII text."""
        return self._signer.get_signature(_joined(parts))

    def verify(self, signature: bytes | None, *parts: bytes) -> None:
        """Return if :meth:`sign` made the signature of these pieces.

        :param signature: What was stored; empty or ``None`` means unsigned.
        :raises BadSignature: The data is unsigned, or it was altered.
        """
        if not signature:
            raise BadSignature("unsigned data refused, TASKQUEUE_SIGN is on")
        if not self._signer.verify_signature(_joined(parts), signature):
            raise BadSignature("altered data refused: its signature does not match")


def _joined(parts: t.Iterable[bytes]) -> bytes:
    # Why the lengths: (b"ab", b"c") and (b"a", b"bc") must not sign alike.
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
