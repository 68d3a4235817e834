r"""How long a regular expression may look at a text, at worst. Pure.

Of the patterns that are let in none takes exponential time, but each repeat may
multiply the time by the length of the text, and matching holds the interpreter's
lock all that while, so that no deadline can end it. So a text that may take too
long is not looked at, and the query fails: to pass it over, or to look at its
beginning only, would be a wrong answer that nobody notices.

A repeat multiplies only where it is open how far it goes. It is settled if what
must follow it is nothing that it could take itself, as in ``\w+@``, or if nothing
follows it at all. What is not understood is taken to be open.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import attrs

from rtos.daemons.data.regex import is_option, is_repeat, pieces_of

MOST_STEPS: Final = 50_000_000
"""The most steps on one text: some tenths of a second at worst, which is seldom."""
_SPECIAL: Final = frozenset(".^$*+?{}[]()|\\")
_NO_CHARACTER: Final = frozenset(["^", "$", "(", ")", "|", "*", "+", "?", "\\A", "\\Z", "\\b", "\\B"])
_APART: Final = [{"\\w", "\\s"}, {"\\d", "\\s"}, {"\\w", "\\W"}, {"\\d", "\\D"}, {"\\s", "\\S"}]
_CLASSES: Final = "wWdDsS"
_ASCII: Final = "".join(map(chr, range(128)))


@attrs.frozen
class Cost:
    """What of a pattern takes time.

    Attributes:
      starts: what every match begins with, as text; empty if that is unknown.
      anchored: a match can only begin where the text does.
      choices: for each choice between whole patterns what it does, the last first:
        a number to look at so many characters, ``settled`` and ``open`` for
        repeats, ``twice`` for what may be taken in two ways.
      times: how often fixed groups are repeated, multiplied.
    """

    starts: str
    anchored: bool
    choices: tuple[tuple[int | str, ...], ...]
    times: int

    def steps(self, text: str) -> int:
        """The most steps that looking through a text takes."""
        # What overlaps itself may begin more often than it is counted.
        places = 1 if self.anchored else text.count(self.starts) * max(len(self.starts), 1)
        at_each = sum(_steps(choice, len(text)) for choice in self.choices)
        return len(text) + places * at_each * min(self.times, len(text) + 1)


def _steps(choice: tuple[int | str, ...], length: int) -> int:
    steps, repeats = 1, 0
    for part in choice:
        if part == "open":
            # Together comb(length + repeats, repeats): the ways to share a text among them.
            repeats += 1
            steps = steps * (length + repeats) // repeats + 1
        elif part == "settled":
            steps += length
        elif part == "twice":
            steps *= 2
        else:
            steps += min(int(part), length)
    return steps


@lru_cache(maxsize=256)
def cost_of(pattern: str) -> Cost:
    """What of a pattern takes time; the pattern is one that is let in."""
    pieces = pieces_of(pattern)
    plain = _is_plain(pattern, pieces)
    choices: list[list[int | str]] = [[]]
    depth, times = 0, 1
    for place, piece in enumerate(pieces):
        before = pieces[place - 1] if place else ""
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            choices.append([])
        elif _is_exact(piece) and before == ")":
            times *= max(int(piece[1:-1]), 1)
        elif _is_exact(piece):
            choices[-1].append(int(piece[1:-1]))
        elif is_repeat(piece):
            settled = plain and _is_settled(pieces, place, depth)
            choices[-1].append("settled" if settled else "open")
        else:
            choices[-1].append("twice" if piece == "|" or is_option(before, piece) else 1)
    sure = plain and "|" not in pieces
    return Cost(
        starts=_beginning(pieces) if sure else "",
        anchored=sure and pieces[:1] in (["^"], ["\\A"]),
        choices=tuple(tuple(reversed(choice)) for choice in choices),
        times=times,
    )


def _is_plain(pattern: str, pieces: list[str]) -> bool:
    """No flag changes what its pieces mean, and none of them goes on in the next one, as after an escape."""
    if re.search(r"\(\?[a-zA-Z-]+[:)]", pattern):
        return False
    known = _CLASSES + "bBAZafnrtv"
    return not any(piece[0] == "\\" and piece[1:].isalnum() and piece[1] not in known for piece in pieces)


def _is_settled(pieces: list[str], place: int, depth: int) -> bool:
    """Whether a repeat can end in one place only, wherever it begins."""
    behind = [*pieces[place + 1 :], "", ""]
    if behind[0] == "?":
        behind = behind[1:]
    if depth == 0 and behind[0] in ("", "|"):
        return True
    may_lack = behind[1] in ("?", "*") or (behind[1][:1] == "{" and not re.match(r"\{[1-9]", behind[1]))
    return place > 0 and not may_lack and _are_apart(pieces[place - 1], behind[0])


def _are_apart(one: str, other: str) -> bool:
    """Whether no character is of both, which are pieces for one character each."""
    if not one or not other or {one, other} & _NO_CHARACTER or is_repeat(one) or is_repeat(other):
        return False
    if {one, other} in _APART:
        return True
    if _is_wide(one) and _is_wide(other):
        return False
    # What one of them takes is all ASCII, so that nothing else can be of both.
    return not any(re.fullmatch(one, char) and re.fullmatch(other, char) for char in _ASCII)


def _is_wide(piece: str) -> bool:
    """It may take characters beyond ASCII."""
    if not piece.isascii() or piece == "." or piece[:2] == "[^":
        return True
    return any(f"\\{each}" in piece for each in _CLASSES)


def _is_exact(piece: str) -> bool:
    return piece[:1] == "{" and piece[1:-1].isdigit()


def _beginning(pieces: list[str]) -> str:
    found = []
    for piece, after in zip(pieces, [*pieces[1:], ""], strict=False):
        if piece in _SPECIAL or len(piece) > 1 or is_repeat(after) or _is_exact(after) or after == "?":
            break
        found.append(piece)
    return "".join(found)
