"""Hostile requests: the real commands with wrong types, depths and sizes, and what is no request.

Pure, and the same for the same seed. A request is the bytes of a line, mostly.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

PATTERNS = (
    "(a+)+$",
    "(a|aa)+$",
    "a*a*a*a*b",
    "(",
    "[",
    "a{1000000000}",
    "(?P<x>",
    "(?<!a*)b",
    "\\",
    "(?i)ä",
    "a" * 10_000,
    "(" * 500 + ")" * 500,
    "\x00",
)
NAMES = (
    "",
    ".",
    "..",
    "../../../escape",
    "/tmp/escape",
    "operator",
    "helper-ai",
    "general",
    "notes",
    "users",
    "chat_messages",
    "memories",
    "kv",
    "x'; DROP TABLE c_users; --",
    '"',
    "a" * 5000,
    "\x00",
    "\ud800",
    "naïve ☃",
    "CON",
    "c_users$text",
    "sqlite_schema",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, 1e308, float("inf"), float("nan"), -0.0)
OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$regex", "$contains",
             "$and", "$or", "$not", "$where", "$", "")  # fmt: skip
FIELDS = (
    "id",
    "text",
    "name",
    "a.b.c",
    "a.0.b",
    "$text",
    "",
    ".",
    "a" * 300,
    'x")) OR 1=1 --',
    "created_at",
    "body",
)
NOISE = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"1e999",
    b'{"id": 1}',
    b'{"id": null, "command": "ping"}',
    b'{"id": 1, "id": 2, "command": "ping"}',
    b'{"id": 1, "command": "ping", "extra": 1}',
    b'{"id": 1, "command": "ping", "timeout": -1}',
    b'{"id": 1, "command": "ping", "timeout": 1e400}',
    b'{"id": 1, "command": "ping", "params": []}',
    b'{"id": 1, "cancel": true}',
    b'{"id": {}, "cancel": true}',
    b'{"id": 1, "cancel": true, "command": "ping"}',
    b'{"id": "\\ud800", "command": "ping"}',
    b"[" * 20_000,
    b'{"id": 1, "command": "data/store", "params": {"key": "deep", "value": '
    + b"[" * 5000
    + b"]" * 5000
    + b"}}",
    b'{"id": 1, "command": "data/read", "params": {"key": ' + b"9" * 5000 + b"}}",
    bytes(range(256)).replace(b"\n", b""),
    b"\xff\xfe" * 50,
)
# Parking stops what is to be looked at, as it is asked to.
LEFT_OUT = ("daemon/park",)


class Grammar:
    """Makes requests.

    Args:
      commands: as ``system/commands`` tells of them.
      seed: the same gives the same.
    """

    def __init__(self, commands: list[dict[str, Any]], seed: int) -> None:
        self._commands = [each for each in commands if each["name"] not in LEFT_OUT]
        self._chance = Random(seed)
        self._number = 0

    def line(self) -> bytes:
        """One line, with its end; or a part of one, without."""
        chance = self._chance.random()
        if chance < 0.08:
            return self._chance.choice(NOISE) + b"\n"
        if chance < 0.10:
            return self._chance.randbytes(self._chance.randrange(300)).replace(b"\n", b"") + b"\n"
        if chance < 0.13:
            return self._encoded({"subscribe": self._many(self._pattern)})
        line = self._encoded(self._command())
        if chance < 0.15:
            return line[: self._chance.randrange(len(line))]
        return line

    def _encoded(self, request: dict[str, Any]) -> bytes:
        self._number += 1
        timeout = self._chance.choice((0.01, 0.2, 2.0))
        return json.dumps({"id": self._number, "timeout": timeout} | request).encode() + b"\n"

    def _command(self) -> dict[str, Any]:
        command = self._chance.choice(self._commands)
        params = {}
        for parameter in command["parameters"]:
            if self._chance.random() < (0.95 if parameter["required"] else 0.4):
                params[parameter["name"]] = self._value(parameter["name"], parameter["type"])
        if self._chance.random() < 0.03:
            params[self._chance.choice(FIELDS)] = 1
        name = command["name"] if self._chance.random() < 0.97 else self._chance.choice(NAMES)
        return {"command": name, "params": params}

    def _value(self, name: str, type: str) -> Any:
        if self._chance.random() < 0.2:
            return self._anything(3)
        if name == "filter":
            return self._filter(3)
        if name == "operations":
            return self._many(self._operation)
        if name in ("data", "value"):
            return self._record()
        if name == "sort":
            return self._many(lambda: self._chance.choice(("", "-")) + self._chance.choice(FIELDS))
        if type.startswith(("int", "float")):
            return self._chance.choice((1, 2, 10, 100, *NUMBERS))
        if type.startswith("bool"):
            return self._chance.choice((True, False))
        if type.startswith("list"):
            return self._many(lambda: self._chance.choice(NAMES))
        if type.startswith("dict"):
            return self._record()
        return self._chance.choice(NAMES)

    def _record(self) -> dict[str, Any]:
        record = {self._chance.choice(FIELDS): self._anything(2) for _ in range(self._chance.randrange(4))}
        return {"text": "a" * self._chance.choice((1, 20, 28)), "name": "x"} | record

    def _operation(self) -> dict[str, Any]:
        return {
            "op": self._chance.choice(("create", "store", "update", "delete", "drop", None)),
            "collection": self._chance.choice(NAMES),
            "key": self._chance.choice(NAMES),
            "id": self._chance.choice(NAMES),
            "data": self._record(),
            "value": self._anything(2),
            "expected_version": self._chance.choice(NUMBERS),
        }

    def _filter(self, depth: int) -> Any:
        found: dict[str, Any] = {}
        for _ in range(self._chance.randrange(1, 3)):
            operator = self._chance.choice(OPERATORS)
            if operator in ("$and", "$or") and depth:
                found[operator] = [self._filter(depth - 1) for _ in range(self._chance.randrange(3))]
            elif operator == "$not" and depth:
                found[operator] = self._filter(depth - 1)
            else:
                argument = self._chance.choice(PATTERNS) if operator == "$regex" else self._anything(1)
                found[self._chance.choice(FIELDS)] = {operator: argument}
        return found

    def _anything(self, depth: int) -> Any:
        kind = self._chance.randrange(9 if depth else 6)
        if kind == 0:
            return self._chance.choice((None, True, False))
        if kind in (1, 2):
            return self._chance.choice(NUMBERS)
        if kind in (3, 4):
            return self._chance.choice((*NAMES, *PATTERNS))
        if kind == 5:
            return "x" * self._chance.choice((0, 1000, 100_000))
        if kind == 6:
            return self._nested(self._chance.choice((5, 90, 900)))
        if kind == 7:
            return self._many(lambda: self._anything(depth - 1))
        return {self._chance.choice(FIELDS): self._anything(depth - 1)}

    def _nested(self, depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value] if depth % 2 else {"a": value}
        return value

    def _many(self, one: Any) -> list[Any]:
        return [one() for _ in range(self._chance.choice((0, 1, 2, 3, 30)))]

    def _pattern(self) -> str:
        return self._chance.choice(("data:*:created", "*", "**", ":", "a:" * 500, *NAMES))
