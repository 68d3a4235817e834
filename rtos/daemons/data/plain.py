"""Plain values: what a record may hold, and comes back as from every backend.

Pure. Law: a plain value is equal, kind for kind, to what it becomes by being
written as JSON and read again. So a list is a list and never a tuple, numbers
are finite and fit in 64 bits, and text can be written as UTF-8.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Final, TypeVar, cast

_Plain = TypeVar("_Plain")

MAX_NESTING: Final = 64
"""How deep lists and mappings may lie in each other."""
INTEGERS: Final = range(-(2**63), 2**63)
"""The whole numbers that every backend keeps as they are."""
MOST_WORDS: Final = 1000
"""How many words of a text are looked for: looking takes time in the square of them."""
_WORD: Final = re.compile(r"\w+")


def plain(value: Any, where: str = "it", depth: int = 0) -> Any:
    """A copy of a value, made plain; nothing is shared with what was given.

    Args:
      value: text, numbers, truth, ``None``, lists or tuples, and mappings of text to such.
      where: what to call it in an error.
      depth: how deep it lies already.

    Raises:
      ValueError: something in it cannot be stored; its place is named.
    """
    if depth > MAX_NESTING:
        raise ValueError(f"{where} is nested more than {MAX_NESTING} deep")
    if isinstance(value, str):
        return _text(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _number(value, where)
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            _text(key, f"a key of {where}"): plain(item, f"{where}.{key}", depth + 1)
            for key, item in value.items()
        }
    raise ValueError(f"{where} is a {type(value).__name__}, which cannot be stored")


def copied(value: _Plain) -> _Plain:
    """A copy of a plain value; a good deal faster than a copy of anything."""
    if isinstance(value, dict):
        return cast(_Plain, {key: copied(item) for key, item in value.items()})
    return cast(_Plain, [copied(item) for item in value]) if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """What of a field is searched: text, and the members of a list."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def words_of(text: str) -> list[str]:
    """The words of a text, an accent being part of its letter however it was written."""
    return _WORD.findall(unicodedata.normalize("NFC", text))


def wanted_words(text: str) -> list[str]:
    """What is looked for when this is asked: each word once, and no more than ``MOST_WORDS``."""
    return list(dict.fromkeys(words_of(text)))[:MOST_WORDS]


def first_unknown(given: Any, known: Any, where: str = "") -> str | None:
    """The first key, however deep, that is in one plain value and not in another."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, item in given.items():
            place = f"{where}.{key}" if where else key
            found = first_unknown(item, known[key], place) if key in known else place
            if found is not None:
                return found
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for index, (item, other) in enumerate(zip(given, known, strict=True)):
            found = first_unknown(item, other, f"{where}[{index}]")
            if found is not None:
                return found
    return None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is {value!r}, which is no text")  # noqa: TRY004 - one error for all
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where} holds half a surrogate pair, which is no text") from None
    # Of a member of an enumeration its value, where str() would give its name.
    return str.__str__(value)


def _number(value: float, where: str) -> float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value!r}, which is no number that can be stored")
        return float(value)
    # Of a number that only derives from int, a range would look at each of its members.
    number = int(value)
    if number not in INTEGERS:
        raise ValueError(f"{where} is {number!r}, which needs more than 64 bits")
    return number
