"""Which regular expressions are let in. Pure.

Matching holds the interpreter's lock, so a pattern whose time is exponential in
the text would stop every task of the process, and no deadline could end it. Such
patterns repeat a group that itself repeats or chooses, or refer back to a group,
or have many optional pieces in a row. Refused is what looks like it: some that
are harmless, and none that are not. What is let in may still take time in a power
of the text's length, which is at most one more than ``MOST_LOOSE``.
"""

from __future__ import annotations

import re
from typing import Final

MOST_LOOSE: Final = 8
"""The most repeats, options and choices inside of groups: each multiplies the ways to match."""
_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P=|[()|]|[*+]|\{\d*,?\d*\}|.", re.DOTALL)
# A comment, or white space that does not count, could stand between a group and its repeat.
_HIDING: Final = re.compile(r"\?(#|[a-zA-Z]*x)")


def may_explode(pattern: str) -> bool:
    """Whether a repeated group is loose in itself, anything refers back, or too much is loose."""
    pieces = pieces_of(pattern)
    # One entry per open group: whether it can match one text in several ways.
    loose = [False]
    ways, place = 0, 0
    for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        place += len(piece)
        if _refers_back(piece) or (piece == "(" and _HIDING.match(pattern, place)):
            return True
        if piece == "(":
            loose.append(False)
        elif piece == ")" and len(loose) > 1:
            inner = loose.pop()
            if inner and is_repeat(after):
                return True
            loose[-1] = loose[-1] or inner
        elif piece == "|" or is_repeat(piece) or is_option(before, piece):
            loose[-1] = True
            ways += not _is_free(piece, depth=len(loose))
    return ways > MOST_LOOSE


def _refers_back(piece: str) -> bool:
    return piece == "(?P=" or (piece[0] == "\\" and piece[1:].isdigit() and piece != "\\0")


def pieces_of(pattern: str) -> list[str]:
    """A pattern, cut into characters, classes, brackets and what stands behind them."""
    return _PIECE.findall(pattern)


def is_repeat(piece: str) -> bool:
    """Whether a piece says how often what is before it comes."""
    return piece in ("*", "+") or (len(piece) > 2 and piece[0] == "{" and piece != "{1}")


def is_option(before: str, piece: str) -> bool:
    """Whether a piece says that what is before it may be left out."""
    # Behind a repeat it only says which end to try first.
    return piece == "?" and before != "(" and not is_repeat(before)


def _is_free(piece: str, *, depth: int) -> bool:
    """It adds no ways, or does not multiply them: an exact number, or a choice between whole patterns."""
    return (piece[0] == "{" and "," not in piece) or (piece == "|" and depth == 1)
