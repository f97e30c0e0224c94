"""What ``retry(args=…, kwargs=…, queue=…, …)`` changes in its job."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Mapping

from .. import errors, serializer
from ..appstate import AppState
from ..broker.wire import raw
from ..job import StoredJob, signed_parts
from ..options import ChangeOptions, TaskOptions
from ..signing import Signer
from .opening import Call


def changes_of(
    state: AppState, call: Call, retry: errors.Retry
) -> tuple[dict[str, t.Any], str | None, bool]:
    """Fields of the job's hash, another queue or ``None``, and whether the job goes
    to the front of its queue.

    :raises TypeError: An argument cannot be encoded.
    :raises PayloadTooLarge: The arguments are over ``TASKQUEUE_MAX_ARGS_BYTES``.
    """
    given = t.cast(ChangeOptions, retry.options)
    changed = TaskOptions().changed(**given)
    fields = _call_again(call, retry, state.config.max_args_bytes)
    limits: dict[str, t.Any] = {
        name: getattr(changed, name)
        for name in ("time_limit", "soft_time_limit", "ignore_result")
        if name in given
    }
    if limits:
        fields["tq_options"] = json.dumps({**call.stored.options, **limits})
    if fields and (signer := state.signer) is not None:
        fields["tq_sig"] = _signature(signer, call.stored, fields)
    if "expires" in given:
        fields["tq_expires"] = _epoch(changed.expires)
    if "priority" in given:
        fields["enqueue_at_front"] = int(changed.priority > 0)
    front = {**call.stored.fields, **raw(fields)}.get(b"enqueue_at_front")
    return fields, _other_queue(state, call, given), front == b"1"


def _call_again(call: Call, retry: errors.Retry, most: int) -> dict[str, t.Any]:
    if not call.stored.task or (retry.args_, retry.kwargs_) == (None, None):
        return {}
    # Those of the request: an errback is called with others than are stored.
    args = call.request.args if retry.args_ is None else retry.args_
    kwargs = call.kwargs if retry.kwargs_ is None else retry.kwargs_
    data = serializer.dump_call(call.task.name, args, kwargs, call.content, most)
    return {"data": serializer.compress(data)}


def _other_queue(state: AppState, call: Call, given: ChangeOptions) -> str | None:
    queue, key = given.get("queue"), given.get("routing_key")
    if queue is None and key is None:
        return None
    return state.config.router.queue_for(
        call.task.name, call.args, call.kwargs, given,
        call_queue=queue, call_routing_key=key, task_queue=call.stored.queue,
    )[0]  # fmt: skip


def _signature(signer: Signer, stored: StoredJob, fields: Mapping[str, t.Any]) -> bytes:
    """The signature of a job whose fields change."""
    merged = StoredJob(stored.id, {**stored.fields, **raw(fields)})
    data = merged.data(2**62)
    texts = {name.decode(): value for name, value in merged.fields.items()}
    return signer.sign(*signed_parts(merged.id, data, texts))


def _epoch(instant: str) -> str:
    if instant.startswith("+"):
        return f"{time.time() + float(instant):.6f}"
    return instant
