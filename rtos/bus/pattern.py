"""Which subscriptions an event name matches, at a cost that follows the matches.

Pure. Names and patterns are segments parted by ``:``. A ``*`` in a pattern
stands for exactly one segment, whatever it is; it never crosses a ``:``.
The index is a tree of segments, so an event looks at two children per segment
and not at the subscriptions that it does not match.
"""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")
ANY = "*"


class PatternIndex(Generic[_T]):
    """Subscribers by pattern. Invariant: no branch is kept that leads to nobody."""

    __slots__ = ("_children", "_here")

    def __init__(self) -> None:
        self._children: dict[str, PatternIndex[_T]] = {}
        self._here: dict[_T, None] = {}

    def add(self, pattern: str, subscriber: _T) -> None:
        """Make ``subscriber`` match ``pattern``; twice is the same as once."""
        node = self
        for segment in pattern.split(":"):
            node = node._children.setdefault(segment, PatternIndex())
        node._here[subscriber] = None

    def remove(self, pattern: str, subscriber: _T) -> None:
        """Undo ``add``; harmless when there is nothing to undo."""
        self._remove(pattern.split(":"), 0, subscriber)

    def match(self, name: str) -> list[_T]:
        """The subscribers that match ``name``, each once, however many of its patterns do."""
        nodes = [self]
        for segment in name.split(":"):
            nodes = [
                child
                for node in nodes
                for child in (node._children.get(segment), node._children.get(ANY))
                if child is not None
            ]
        if len(nodes) == 1:
            return list(nodes[0]._here)
        return list(dict.fromkeys(subscriber for node in nodes for subscriber in node._here))

    def __bool__(self) -> bool:
        return bool(self._here or self._children)

    def _remove(self, segments: list[str], depth: int, subscriber: _T) -> None:
        if depth == len(segments):
            self._here.pop(subscriber, None)
            return
        child = self._children.get(segments[depth])
        if child is not None:
            child._remove(segments, depth + 1, subscriber)
            if not child:
                del self._children[segments[depth]]


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that can match nothing.

    Raises:
      ValueError: a segment is empty, or ``*`` is only part of one.
    """
    for segment in pattern.split(":"):
        if not segment or (ANY in segment and segment != ANY):
            msg = f"subscribe: pattern {pattern!r} has the segment {segment!r}; use words or '*' between ':'"
            raise ValueError(msg)
