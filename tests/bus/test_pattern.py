"""The pattern index, compared with matching each pattern separately."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rtos.bus.pattern import PatternIndex, check_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("data:users:created", "data:users:created", True),
        ("data:users:*", "data:users:created", True),
        ("data:*:deleted", "data:users:deleted", True),
        ("*:*:*", "data:users:deleted", True),
        ("data:*", "data:users:created", False),  # a star matches exactly one segment
        ("data:users:*", "data:users", False),
        ("data:users:created", "data:users:create", False),
        ("*", "data", True),
        ("data:*", "data:", True),  # also an empty segment
        ("data:x", "data:*", False),  # a star in a name is an ordinary character
    ],
)
def test_pattern_matches_by_segment(pattern, name, matches):
    index = PatternIndex()
    index.add(pattern, "subscriber")
    assert index.match(name) == (["subscriber"] if matches else [])


def test_subscriber_with_several_matching_patterns_is_returned_once():
    index = PatternIndex()
    for pattern in ("a:b", "a:*", "*:b", "*:*", "a:b"):
        index.add(pattern, "one")
    index.add("a:*", "two")
    assert sorted(index.match("a:b")) == ["one", "two"]
    assert index.match("*:*") == ["one"]


def test_branch_without_subscribers_is_removed():
    index = PatternIndex()
    index.add("a:b:c", "one")
    index.add("a:b", "two")
    index.remove("a:b:c", "one")
    index.remove("a:b:c", "one")
    index.remove("never:there", "one")
    assert index.match("a:b") == ["two"]
    index.remove("a:b", "two")
    assert not index
    assert index._children == {}


@pytest.mark.parametrize("pattern", ["", "a:", ":a", "a::b", "a*", "a:*b:c", "**"])
def test_pattern_that_can_never_match_is_refused(pattern):
    with pytest.raises(ValueError, match=r"subscribe: pattern .* has the segment .*; use words or '\*'"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a", "*", "a:b", "a:*:c", "*:*"])
def test_valid_pattern_is_accepted(pattern):
    check_pattern(pattern)


segments = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(":".join)
subscribers = st.integers(0, 3)


class PatternMachine(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.index = PatternIndex()
        self.model = set()

    @rule(pattern=segments, subscriber=subscribers)
    def add(self, pattern, subscriber):
        self.index.add(pattern, subscriber)
        self.model.add((pattern, subscriber))

    @rule(pattern=segments, subscriber=subscribers)
    def remove(self, pattern, subscriber):
        self.index.remove(pattern, subscriber)
        self.model.discard((pattern, subscriber))

    @rule(name=segments)
    def match(self, name):
        def fits(pattern):
            pairs = list(zip(pattern.split(":"), name.split(":"), strict=False))
            return pattern.count(":") == name.count(":") and all(p in ("*", n) for p, n in pairs)

        found = self.index.match(name)
        assert len(found) == len(set(found))
        assert set(found) == {subscriber for pattern, subscriber in self.model if fits(pattern)}

    @invariant()
    def every_branch_leads_to_a_subscriber(self):
        def check(node):
            for child in node._children.values():
                assert child
                check(child)

        check(self.index)
        assert bool(self.index) == bool(self.model)


TestPatternMachine = PatternMachine.TestCase
