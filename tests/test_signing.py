"""Signatures over stored bytes."""

from __future__ import annotations

import pytest

from flask_taskqueue.errors import BadSignature, ConfigError
from flask_taskqueue.signing import Signer


def test_a_signature_is_verified():
    signer = Signer(["secret"])
    signature = signer.sign(b"id", b"task", b"[1]")
    signer.verify(signature, b"id", b"task", b"[1]")
    assert signature.isascii()


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((b"id", b"task", b"[2]"), id="other-data"),
        pytest.param((b"idt", b"ask", b"[1]"), id="moved-boundary"),
        pytest.param((b"task", b"id", b"[1]"), id="other-order"),
        pytest.param((b"id", b"task"), id="part-missing"),
        pytest.param((b"id", b"task", b"[1]", b""), id="empty-part-more"),
    ],
)
def test_altered_parts_are_refused(parts):
    signer = Signer(["secret"])
    signature = signer.sign(b"id", b"task", b"[1]")
    with pytest.raises(BadSignature, match="altered"):
        signer.verify(signature, *parts)


@pytest.mark.parametrize("signature", [b"x", b"\xff\x00", b"=" * 50, b"." * 43])
def test_a_made_up_signature_is_altered(signature):
    with pytest.raises(BadSignature, match="altered"):
        Signer(["secret"]).verify(signature, b"data")


@pytest.mark.parametrize("signature", [b"", None])
def test_no_signature_is_unsigned(signature):
    with pytest.raises(BadSignature, match="unsigned"):
        Signer(["secret"]).verify(signature, b"data")


def test_fallback_keys_verify_and_do_not_sign():
    old, rotated, new = Signer(["old"]), Signer(["new", "old"]), Signer([b"new"])
    rotated.verify(old.sign(b"data"), b"data")
    new.verify(rotated.sign(b"data"), b"data")
    with pytest.raises(BadSignature, match="altered"):
        old.verify(rotated.sign(b"data"), b"data")


@pytest.mark.parametrize("keys", [[], [""], [None], [b"", "old"]], ids=repr)
def test_signing_needs_a_secret_key(keys):
    with pytest.raises(ConfigError, match="TASKQUEUE_SIGN needs SECRET_KEY"):
        Signer(keys)


@pytest.mark.parametrize("fallback", ["", None, 5], ids=repr)
def test_an_unusable_fallback_key_is_refused(fallback):
    with pytest.raises(ConfigError, match="SECRET_KEY_FALLBACKS"):
        Signer(["secret", fallback])


def test_one_key_is_not_taken_for_a_list_of_letters():
    with pytest.raises(TypeError, match="list of keys"):
        Signer("secret")
