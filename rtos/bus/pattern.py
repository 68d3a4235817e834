"""An index of event patterns, whose lookups cost in proportion to the matches.

Pure. Names and patterns are segments separated by ``:``. A ``*`` in a pattern matches
exactly one segment, whatever it contains. The index is a tree of segments: a lookup visits at
most two children per node, and never the subscriptions that do not match.
"""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")
ANY = "*"


class PatternIndex(Generic[_T]):
    """Subscribers by pattern. Invariant: every branch leads to a subscriber."""

    __slots__ = ("_children", "_here")

    def __init__(self) -> None:
        self._children: dict[str, PatternIndex[_T]] = {}
        self._here: dict[_T, None] = {}

    def add(self, pattern: str, subscriber: _T) -> None:
        """Make ``subscriber`` match ``pattern``. Adding the same pair again changes nothing."""
        node = self
        for segment in pattern.split(":"):
            node = node._children.setdefault(segment, PatternIndex())
        node._here[subscriber] = None

    def remove(self, pattern: str, subscriber: _T) -> None:
        """Undo ``add``. Does nothing if the pair was not added."""
        self._remove(pattern.split(":"), 0, subscriber)

    def match(self, name: str) -> list[_T]:
        """The subscribers that match ``name``, each once, even if several of its patterns match."""
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
    """Check that a pattern can match an event name.

    Raises:
      ValueError: a segment is empty, or contains ``*`` beside other characters.
    """
    for segment in pattern.split(":"):
        if not segment or (ANY in segment and segment != ANY):
            msg = f"subscribe: pattern {pattern!r} has the segment {segment!r}; use words or '*' between ':'"
            raise ValueError(msg)
