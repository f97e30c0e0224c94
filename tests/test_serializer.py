"""Calls and values as bytes, and back."""

from __future__ import annotations

import enum
import json
import pickle
import sys
import tracemalloc
import uuid
import zlib
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rq.serializers import JSONSerializer

from flask_taskqueue.errors import (
    ConfigError,
    ContentDisallowed,
    DecodeError,
    PayloadTooLarge,
)
from flask_taskqueue.serializer import (
    CONTENT_TYPES,
    compress,
    content_type_of,
    decompress,
    dump_call,
    dumps,
    load_call,
    loads,
)

MIB = 1024 * 1024
DATA_TYPES = ["json", "msgpack"]

offsets = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | offsets)
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.just(uuid.UUID(int=0))
)
keys = st.text() | st.sampled_from(["__type__", "__value__", "dict", "datetime"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=20,
)


def back(value, content_type="json"):
    return loads(dumps(value, content_type), content_type, [content_type])


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@settings(deadline=None)
@given(value=values)
def test_values_come_back(content_type, value):
    assert back(value, content_type) == value


@settings(deadline=None)
@given(args=st.lists(values, max_size=3), kwargs=st.dictionaries(st.text(), values))
def test_calls_come_back(args, kwargs):
    data = dump_call("pkg.f", args, kwargs, "json", MIB)
    assert load_call(data, "json", ["json"], MIB) == ("pkg.f", None, args, kwargs)


@pytest.mark.parametrize("content_type", DATA_TYPES)
@given(data=st.binary())
def test_arbitrary_bytes_raise_only_what_is_promised(content_type, data):
    for load in (
        lambda: loads(data, content_type, DATA_TYPES),
        lambda: load_call(data, content_type, DATA_TYPES, 50),
    ):
        try:
            load()
        except (DecodeError, PayloadTooLarge):
            pass


json_values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.fixed_dictionaries(
            {
                "__type__": st.sampled_from(
                    "datetime date time decimal uuid bytes base64 dict other".split()
                )
                | inner,
                "__value__": inner,
            }
        )
    ),
)


@given(value=json_values)
def test_arbitrary_marked_values_raise_only_what_is_promised(value):
    try:
        loads(json.dumps(value).encode(), "json", ["json"])
    except DecodeError:
        pass


@pytest.mark.parametrize("content_type", DATA_TYPES)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(datetime(2026, 1, 2, 3, 4, 5, 678901), id="naive"),
        pytest.param(2**70, id="70-bits"),
        pytest.param(-(10**300), id="300-digits"),
        pytest.param("\ud800 lone, é, 😀", id="surrogate"),
        pytest.param({"\udfff": "\\\ud800"}, id="surrogate-key"),
        pytest.param(b"\xff\x00", id="binary"),
        pytest.param({"__type__": "datetime", "__value__": "x"}, id="marker-form"),
        pytest.param({"__type__": 1}, id="half-a-marker"),
        pytest.param(
            {"__type__": "dict", "__value__": [["__type__", 1], ["__value__", 2]]},
            id="escaped-form",
        ),
        pytest.param(
            {"__type__": date(2026, 1, 2), "__value__": {"__type__": b"", "a": 1}},
            id="marker-with-values",
        ),
    ],
)
def test_unusual_values_come_back(content_type, value):
    assert back(value, content_type) == value


@pytest.mark.parametrize("content_type", DATA_TYPES)
def test_an_aware_datetime_keeps_its_offset(content_type):
    moment = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    again = back(moment, content_type)
    assert again == moment
    assert again.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("content_type", DATA_TYPES)
def test_tuples_come_back_as_lists_and_enums_as_values(content_type):
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    assert back(((1, 2), Colour.RED, Level.HIGH), content_type) == [[1, 2], "red", 3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # As kombu 5 writes them.
        pytest.param(
            '{"__type__": "datetime", "__value__": "2026-01-02T03:04:05+02:00"}',
            datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
            id="datetime",
        ),
        pytest.param(
            '{"__type__": "date", "__value__": "2026-01-02"}',
            date(2026, 1, 2),
            id="date",
        ),
        pytest.param(
            '{"__type__": "time", "__value__": "03:04:05"}', time(3, 4, 5), id="time"
        ),
        pytest.param(
            '{"__type__": "decimal", "__value__": "1.10"}',
            Decimal("1.10"),
            id="decimal",
        ),
        pytest.param(
            '{"__type__": "uuid", "__value__":'
            ' {"hex": "0192f0c1e1a27b3c8d4e5f6071829304", "version": 7}}',
            uuid.UUID("0192f0c1e1a27b3c8d4e5f6071829304"),
            id="uuid7",
        ),
        pytest.param('{"__type__": "bytes", "__value__": "hi"}', b"hi", id="bytes"),
        pytest.param(
            '{"__type__": "base64", "__value__": "/w=="}', b"\xff", id="base64"
        ),
    ],
)
def test_kombus_form_is_read_and_written(text, value):
    assert loads(text.encode(), "json", ["json"]) == value
    written = json.loads(dumps(value))
    assert written["__type__"] == json.loads(text)["__type__"]
    assert written.keys() == {"__type__", "__value__"}


def test_json_is_compact_utf8():
    assert dumps({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


class Secretive:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            {1, 2}, r"^expected value to be JSON .*got a set: {1, 2}$", id="set"
        ),
        pytest.param(
            {"a": [0, {1}]}, r"value\['a'\]\[1\] to be .*a set: {1}", id="path"
        ),
        pytest.param(
            {"a": {(1, 2): 3}}, r"value\['a'\] to be .*keys must be str", id="key"
        ),
        pytest.param([object], r"value\[0\] .*got a type: <class", id="class"),
        pytest.param(Secretive(), r"got a Secretive: <Secretive", id="bad-repr"),
        pytest.param(
            time(12, tzinfo=ZoneInfo("Europe/Berlin")), "got a time", id="zoned-time"
        ),
        pytest.param([10**5000], r"value\[0\] to be .*got an int", id="5000-digits"),
    ],
)
def test_what_json_cannot_carry_is_told_with_its_place(value, message):
    with pytest.raises(TypeError, match=message):
        dumps(value)


@pytest.mark.parametrize("content_type", DATA_TYPES)
def test_a_circle_is_a_type_error(content_type):
    outer = {"inner": []}
    outer["inner"].append(outer)
    with pytest.raises(TypeError, match=r"expected value"):
        dumps(outer, content_type)


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_too_deep_a_value_is_a_type_error(content_type):
    deep = {"__type__": 1, "__value__": []}
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="expected value"):
        dumps(deep, content_type)


@pytest.mark.parametrize("key", [1, None, (1, 2)], ids=repr)
def test_msgpack_refuses_the_keys_it_would_not_read_again(key):
    with pytest.raises(TypeError, match=r"value\['a'\] to be msgpack"):
        dumps({"a": {key: 1}}, "msgpack")


def test_what_cannot_be_pickled_is_told_with_its_place():
    with pytest.raises(TypeError, match=r"value\[1\] to be picklable, got a function"):
        dumps([1, lambda: None], "pickle")


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        pytest.param((1, 2, {3}), {}, "expected argument 2 to be JSON", id="position"),
        pytest.param((), {"x": {3}}, "expected argument 'x' to be JSON", id="name"),
        pytest.param((1, {"a": {3}}), {}, r"argument 1\['a'\] to be JSON", id="path"),
        pytest.param((), {1: 2}, "argument names to be str, got 1", id="no-name"),
    ],
)
def test_an_argument_that_cannot_be_carried_is_named(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        dump_call("f", args, kwargs, "json", MIB)


@given(args=st.lists(st.text()), kwargs=st.dictionaries(st.text(), st.integers()))
def test_rq_reads_a_call(args, kwargs):
    data = dump_call("pkg.f", args, kwargs, "json", MIB)
    assert JSONSerializer.loads(data) == ["pkg.f", None, args, kwargs]


def test_a_call_rq_wrote_is_read():
    data = JSONSerializer.dumps(("pkg.f", None, (1,), {"a": 2}))
    assert load_call(data, "json", ["json"], MIB) == ("pkg.f", None, [1], {"a": 2})
    data = pickle.dumps(("pkg.f", None, (1,), {"a": {2}}))
    assert load_call(data, "pickle", ["pickle"], MIB)[3] == {"a": {2}}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param({}, id="dict"),
        pytest.param("abcd", id="text"),
        pytest.param(["f", None, []], id="three"),
        pytest.param([1, None, [], {}], id="name"),
        pytest.param(["f", None, {}, {}], id="args"),
        pytest.param(["f", None, "ab", {}], id="text-args"),
        pytest.param(["f", None, [], []], id="kwargs"),
    ],
)
@pytest.mark.parametrize("content_type", DATA_TYPES)
def test_what_is_not_a_call_is_a_decode_error(content_type, call):
    with pytest.raises(DecodeError, match="expected a"):
        load_call(dumps(call, content_type), content_type, DATA_TYPES, MIB)


def test_pickled_argument_names_must_be_text():
    data = pickle.dumps(("f", None, [], {1: 2}))
    with pytest.raises(DecodeError, match="keyword arguments"):
        load_call(data, "pickle", ["pickle"], MIB)


def test_a_call_too_large_is_refused_both_ways():
    data = dump_call("f", ["x" * 100], {}, "json", MIB)
    message = f"{len(data) - 1} bytes .TASKQUEUE_MAX_ARGS_BYTES., got {len(data)}"
    with pytest.raises(PayloadTooLarge, match=message):
        dump_call("f", ["x" * 100], {}, "json", len(data) - 1)
    with pytest.raises(PayloadTooLarge, match=message):
        load_call(data, "json", ["json"], len(data) - 1)
    assert load_call(data, "json", ["json"], len(data))


class Trap:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("decoded",)


def test_what_is_not_accepted_is_not_decoded():
    with pytest.raises(ContentDisallowed, match="TASKQUEUE_ACCEPT_CONTENT.*'pickle'"):
        loads(pickle.dumps(Trap()), "pickle", ["json", "msgpack"])


def test_an_unknown_content_type_is_not_decoded():
    with pytest.raises(ContentDisallowed, match="'yaml'"):
        loads(b"[]", "yaml", ["yaml"])
    with pytest.raises(ValueError, match="one of json, msgpack, pickle, got 'yaml'"):
        dumps([], "yaml")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff[1]", id="not-utf8"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"__type__":1}' + b"[" * 100_000, id="deep-marked"),
        pytest.param(b"1" * 5000, id="5000-digits"),
        pytest.param(b'{"__type__":"other","__value__":1}', id="unknown-marker"),
        pytest.param(b'{"__type__":[],"__value__":1}', id="unhashable-marker"),
        pytest.param(
            b'{"__type__":"decimal","__value__":"1e9999999999999999999"}', id="decimal"
        ),
        pytest.param(b'{"__type__":"dict","__value__":[[1,2],[3,4]]}', id="dict"),
    ],
)
def test_garbage_json_is_a_decode_error(data):
    with pytest.raises(DecodeError, match="to be json"):
        loads(data, "json", ["json"])


class BrokenError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def raise_broken():
    raise BrokenError


class RaisesWhenRead:
    def __reduce__(self):
        return raise_broken, ()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x05", id="cut"),
        pytest.param(b"\x80\x05cno_such_module\nthing\n.", id="missing-module"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(pickle.dumps(RaisesWhenRead()), id="raises"),
    ],
)
def test_garbage_pickle_is_a_decode_error(data):
    with pytest.raises(DecodeError, match="to be pickle"):
        loads(data, "pickle", ["pickle"])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="reserved"),
        pytest.param(b"\x01\x02", id="more"),
        pytest.param(b"\x91" * 5000 + b"\x01", id="deep"),
        pytest.param(msgpack.packb({1: 2}), id="int-key"),
        pytest.param(msgpack.packb(msgpack.ExtType(9, b"")), id="extension"),
        pytest.param(msgpack.packb(msgpack.ExtType(1, b"[1]")), id="bad-extension"),
    ],
)
def test_garbage_msgpack_is_a_decode_error(data):
    with pytest.raises(DecodeError, match="to be msgpack"):
        loads(data, "msgpack", ["msgpack"])


def test_msgpack_headers_without_items_take_no_memory():
    size = 64 * 1024
    data = b"".join(b"\xdd" + size.to_bytes(4, "big") for _ in range(500))
    data += b"\xc0" * size
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            loads(data, "msgpack", ["msgpack"])
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_msgpack_timestamps_of_others_are_datetimes():
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    data = msgpack.packb(moment, datetime=True)
    assert loads(data, "msgpack", ["msgpack"]) == moment


def test_without_msgpack_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ConfigError, match=r"Flask-TaskQueue\[msgpack\]"):
        dumps([], "msgpack")
    with pytest.raises(ConfigError, match=r"Flask-TaskQueue\[msgpack\]"):
        loads(b"\x90", "msgpack", ["msgpack"])


def test_content_type_of_a_plain_rq_job():
    assert content_type_of(JSONSerializer.dumps(("f", None, (), {}))) == "json"
    assert content_type_of(pickle.dumps(("f", None, (), {}), protocol=5)) == "pickle"
    for data in (b"", b"{}", b"x\x9c"):
        with pytest.raises(DecodeError, match="expected a pickle"):
            content_type_of(data)


@given(data=st.binary(max_size=3000))
def test_compressed_data_comes_back(data):
    call = b"[" + data
    assert decompress(compress(call), len(call)) == call


def test_only_long_data_is_compressed():
    assert compress(b"[" * 1024) == b"[" * 1024
    assert len(compress(b"[" * 1025)) < 100


@given(data=st.binary(max_size=100))
def test_what_rq_would_read_is_read_alike(data):
    assert decompress(zlib.compress(data), 100) == data
    if data[:1] != b"x":
        assert decompress(data, 0) == data


@pytest.mark.parametrize("data", [b"x", b"x^2 = 4", b"x\x9cnot zlib at all"], ids=repr)
def test_text_that_looks_like_zlib_is_returned_as_it_is(data):
    assert decompress(data, 100) == data


def test_a_bomb_is_not_expanded():
    bomb = zlib.compress(b"[" * (64 * MIB), 9)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match=f"at most {MIB} bytes"):
            decompress(bomb, MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_allowed():
    data = b"[" * 2000
    assert decompress(compress(data), 2000) == data
    with pytest.raises(PayloadTooLarge):
        decompress(compress(data), 1999)


def test_a_cut_stream_is_a_decode_error():
    with pytest.raises(DecodeError, match="zlib"):
        decompress(zlib.compress(b"hello" * 500)[:-3], MIB)
