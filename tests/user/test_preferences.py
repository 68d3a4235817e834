"""Files of preferences: what is taken, what is refused, and what stays in force."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, strategies

from rtos.errors import StoreError
from rtos.user import preferences
from rtos.user.content import Preferences
from rtos.user.entities import PREFERENCES
from rtos.user.preferences import MAX_BYTES, NAMES, PreferencesBook, checked, overlay, parse, read, write

WRONG: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{max_open_tabs: 5}", "it is no JSON object of plain values"),
    "nothing": (b"", "it is no JSON object of plain values"),
    "no object": (b"[1]", "it is no JSON object of plain values"),
    "no text": (b'{"max_open_tabs": "\xff"}', "it is no JSON object of plain values"),
    "an unknown name": (b'{"max_tabs": 5}', "'max_tabs' is not known; use max_open_tabs, "),
    "too many": (b'{"max_open_tabs": 51}', "max_open_tabs is 51; give 1 to 50"),
    "another type": (b'{"max_open_tabs": "five"}', "expected `int`, got `str` - at `$.max_open_tabs`"),
    "a flag for a number": (b'{"max_open_tabs": true}', "expected `int`, got `bool`"),
    "null": (b'{"remember_scroll": null}', "expected `bool`, got `null`"),
    "nested": (b'{"max_open_tabs": {"a": 1}}', "it is no JSON object of plain values"),
    "a deep nest": (b'{"a":' * 10_000, "it is no JSON object of plain values"),
    "too large": (b'{"max_open_tabs": 5}' + b" " * MAX_BYTES, "it has more than 65536 bytes"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "preferences.json"


def test_what_a_file_holds_stands_over_what_is_usual(path: Path) -> None:
    path.write_text('{"max_open_tabs": 7, "sync_devices": true}')
    book = PreferencesBook()
    assert book.accept("ai", read(path)) == ["max_open_tabs", "sync_devices"]
    usual = PREFERENCES["persona"]
    assert book.effective("ai", usual) == attrs.evolve(usual, max_open_tabs=7, sync_devices=True)
    # Everybody else is as usual.
    assert book.effective("ann", PREFERENCES["human"]) == PREFERENCES["human"]


def test_no_file_prefers_nothing(path: Path) -> None:
    assert read(path) == {}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_is_refused_with_one_clear_error(what: str, path: Path) -> None:
    text, reason = WRONG[what]
    path.write_bytes(text)
    with pytest.raises(StoreError) as caught:
        read(path)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"read {str(path)!r}: ")
    assert "; mend the file" in str(caught.value)


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(what: str, path: Path) -> None:
    other = path.with_name("other")
    other.write_text('{"max_open_tabs": 7}')
    {"link": lambda: path.symlink_to(other), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[what]()
    with pytest.raises(StoreError, match="symbolic links|it is no file|Is a directory"):
        read(path)


def test_what_was_in_force_stays_in_force_when_the_file_is_broken() -> None:
    book = PreferencesBook()
    book.accept("ann", {"max_open_tabs": 7})
    assert book.reject("ann", "no JSON") is True
    assert book.reject("ann", "no JSON") is False  # the same fault is no news
    assert book.reject("ann", "too large") is True
    assert book.given("ann") == {"max_open_tabs": 7}
    assert book.wrong() == {"ann": "too large"}
    # It was mended, and holds what it held before.
    assert book.accept("ann", {"max_open_tabs": 7}) == []
    assert book.wrong() == {}


def test_what_has_changed_is_named() -> None:
    book = PreferencesBook()
    assert book.accept("ann", {"max_open_tabs": 7, "sync_devices": False}) == [
        "max_open_tabs",
        "sync_devices",
    ]
    assert book.accept("ann", {"max_open_tabs": 8, "sync_devices": False}) == ["max_open_tabs"]
    assert book.accept("ann", {"sync_devices": False}) == ["max_open_tabs"]
    assert book.accept("ann", {}) == ["sync_devices"]
    assert book.accept("ann", {}) == []


def test_who_goes_is_forgotten() -> None:
    book = PreferencesBook()
    book.accept("ann", {"max_open_tabs": 7})
    book.reject("ann", "no JSON")
    book.forget("ann")
    book.forget("ann")
    assert (book.given("ann"), book.wrong()) == ({}, {})


def test_a_file_is_replaced_as_a_whole_and_open_to_its_owner_only(path: Path) -> None:
    path.write_text("broken")
    path.chmod(0o644)
    with path.open() as before:
        write(path, {"max_open_tabs": 7})
        assert before.read() == "broken"  # whoever reads it reads one or the other
    assert json.loads(path.read_text()) == {"max_open_tabs": 7}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {"max_open_tabs": 7})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preferences.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device; mend the folder or make room"):
        write(path, {"max_open_tabs": 8})
    assert read(path) == {"max_open_tabs": 7}
    assert list(path.parent.iterdir()) == [path]


_VALUES = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-5, 60)
    | strategies.sampled_from(["", "5"])
)


def _is_valid(name: str, value: object) -> bool:
    """The rules once more, as plainly as can be."""
    if name in ("remember_scroll", "sync_devices"):
        return type(value) is bool
    if name == "max_open_tabs":
        return type(value) is int and 1 <= value <= 50
    return name == "auto_close_after_days" and type(value) is int and value >= 1


@given(strategies.dictionaries(strategies.sampled_from([*NAMES, "other"]), _VALUES))
def test_what_is_accepted_is_valid_and_nothing_that_is_valid_is_refused(wanted: dict[str, Any]) -> None:
    valid = all(_is_valid(name, value) for name, value in wanted.items())
    if not valid:
        with pytest.raises(ValueError, match="is not known; use|give|expected"):
            parse(json.dumps(wanted).encode())
        return
    taken = parse(json.dumps(wanted).encode())
    for usual in PREFERENCES.values():
        result = overlay(usual, taken)
        assert msgspec.convert(msgspec.to_builtins(result), type=Preferences) == result
        assert {name: getattr(result, name) for name in wanted} == wanted


@given(strategies.binary(max_size=200))
def test_whatever_a_file_holds_it_is_taken_or_refused(text: bytes) -> None:
    try:
        assert checked(parse(text)) == parse(text)
    except ValueError as error:
        assert str(error)
