"""Which regular expressions are let in. Pure.

Matching holds the interpreter's lock, so a pattern whose time is exponential in
the text would stop every task of the process, and no deadline could end it. Such
patterns repeat a group that itself repeats or chooses, or refer back to a group.
Refused is what looks like it: some that are harmless, and none that are not. What
is let in may still take time in a power of the text's length.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P=|[()|]|[*+]|\{\d*,?\d*\}|.", re.DOTALL)


def may_explode(pattern: str) -> bool:
    """Whether a repeated group holds a repeat or a choice, or anything refers back."""
    pieces = _PIECE.findall(pattern)
    # One entry per open group: whether it can match one text in several ways.
    loose = [False]
    for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        if _refers_back(piece):
            return True
        if piece == "(":
            loose.append(False)
        elif piece == ")" and len(loose) > 1:
            inner = loose.pop()
            if inner and _repeats(after):
                return True
            loose[-1] = loose[-1] or inner
        elif piece == "|" or _repeats(piece) or (piece == "?" and before != "("):
            loose[-1] = True
    return False


def _refers_back(piece: str) -> bool:
    return piece == "(?P=" or (piece[0] == "\\" and piece[1:].isdigit() and piece != "\\0")


def _repeats(piece: str) -> bool:
    return piece in ("*", "+") or (len(piece) > 2 and piece[0] == "{" and piece != "{1}")
