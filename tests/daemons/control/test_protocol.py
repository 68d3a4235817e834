from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.daemons.control.protocol import Request, decode, encode_error, encode_event, encode_result
from rtos.errors import CommandRejected, DeadlineMissed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.integers(-(2**60), 2**60) | st.text(), st.text(), st.dictionaries(st.text(), JSON))
def test_what_is_asked_comes_through(id: int | str, command: str, params: dict) -> None:
    line = json.dumps({"id": id, "command": command, "params": params}).encode()
    assert decode(line) == Request(id=id, command=command, params=params)


@given(st.binary())
def test_any_line_is_a_request_or_is_refused(line: bytes) -> None:
    try:
        decode(line)
    except CommandRejected as error:
        assert str(error).startswith("request: ")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "the line is no request"),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "the line is no request"),
        (b'{"id":1}', "it asks for no one thing"),
        (b'{"id":1,"command":"a","subscribe":[]}', "it asks for no one thing"),
        (b'{"id":1,"command":"a","x":1}', "unknown field `x`"),
        (b'{"command":"a"}', "missing required field `id`"),
        (b'{"id":null,"command":"a"}', "got `null`"),
        (b'{"id":1,"command":"a","params":[]}', "Expected `object`"),
        (b'{"id":1,"command":"a","timeout":0}', "timeout is 0"),
        (b'{"id":1,"command":"a\xff"}', "the line is no request"),
    ],
)
def test_a_line_that_is_no_request_is_refused(line: bytes, text: str) -> None:
    with pytest.raises(CommandRejected, match=text):
        decode(line)


def test_answers_are_lines() -> None:
    assert json.loads(encode_result(1, {"a": [None]})) == {"id": 1, "ok": True, "result": {"a": [None]}}
    assert json.loads(encode_event("s", "a:b", 1, 2)) == {
        "id": "s",
        "event": {"name": "a:b", "payload": 1, "lost": 2},
    }
    for line in (encode_result(1, "a\nb"), encode_error(1, ValueError("a\nb"))):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")


def test_our_errors_are_told_with_their_fields() -> None:
    error = json.loads(encode_error(1, CommandRejected("a/b", "is wrong", parameter="c", remedy="mend it")))
    assert error == {
        "id": 1,
        "ok": False,
        "error": {
            "type": "CommandRejected",
            "message": "a/b: parameter 'c': is wrong; mend it",
            "command": "a/b",
            "reason": "is wrong",
            "parameter": "c",
            "remedy": "mend it",
        },
    }
    assert json.loads(encode_error(1, DeadlineMissed("a/b", started=True)))["error"]["started"] is True


def test_of_other_errors_only_the_kind_is_told() -> None:
    line = encode_error(None, ValueError("secret"))
    assert b"secret" not in line
    assert json.loads(line)["error"]["message"] == "internal error (ValueError); see the log of the system"
