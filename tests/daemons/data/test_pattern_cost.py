"""How long a pattern may look at a text: what is open, what is settled, what is refused."""

from __future__ import annotations

import re
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.pattern_cost import MOST_STEPS, cost_of
from rtos.daemons.data.query import matches, parse_filter
from rtos.daemons.data.regex import may_explode
from rtos.daemons.data.sqlite import records, several
from rtos.errors import StoreError

sys.path.insert(0, str(Path(__file__).parent))
from running import running


def repeats(pattern) -> str:
    """Of each repeat from left to right, whether it is open or settled."""
    return "".join(
        {"open": "o", "settled": "s"}.get(part, "")
        for choice in cost_of(pattern).choices
        for part in reversed(choice)
    )


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        # What follows is not what it takes: it ends there, or nowhere.
        (r"\w+@", "s"),
        (r"\w+\s+\w+x", "sso"),
        (r"^\d{2,4}-\d+", "ss"),
        (r"[a-c]+?d", "s"),
        (r"[^.]*[.]", "s"),
        (r"\d+[^0-9]x*", "os"),  # both take more than ASCII: not looked at closely
        (r"\w+\.", "s"),
        ("ä+b", "s"),
        ("ä+[^b]", "o"),
        # What follows it could take as well, or need not be there.
        ("a*a", "o"),
        (".*b", "o"),
        (r"\w+@?x", "o"),
        (r"\w+@*x", "os"),
        (r"\w+@{0,3}x", "os"),
        (r"\w+@+x", "ss"),
        (r"\w+(@)", "o"),
        (r"\w+$", "o"),
        (r"\w+\b@", "o"),
        ("(ab)+@", "o"),
        # At the end of it all nothing can fail any more.
        ("xa*", "s"),
        ("a*|b*", "ss"),
        ("(a*|c)b", "o"),
        # Here a piece does not mean what it looks like.
        (r"\x41*A", "o"),
        ("(?i)a*A", "o"),
        ("(?i:a*)A", "o"),
    ],
)
def test_which_repeats_are_open(pattern, wanted) -> None:
    assert not may_explode(pattern)
    assert repeats(pattern) == wanted


@pytest.mark.parametrize(
    ("pattern", "starts", "anchored"),
    [
        ("foo.*bar", "foo", False),
        ("foo*bar", "fo", False),
        ("fo?", "f", False),
        ("", "", False),
        ("f{3}", "", False),
        ("^foo", "", True),
        (r"\Afoo", "", True),
        ("foo|bar", "", False),
        ("^foo|bar", "", False),
        ("(?i)foo", "", False),
        ("(?m)^foo", "", False),
    ],
)
def test_where_a_match_can_begin(pattern, starts, anchored) -> None:
    cost = cost_of(pattern)
    assert (cost.starts, cost.anchored) == (starts, anchored)


def test_each_open_repeat_multiplies_and_each_settled_one_adds() -> None:
    text = "a" * 1000
    assert cost_of("^a*b").steps(text) < 10 * 1000
    assert cost_of("^a*b+c+d").steps(text) < 10 * 1000
    assert 1000**2 / 2 < cost_of("a*b").steps(text) < 10 * 1000**2
    assert 1000**2 / 2 < cost_of("^a*a*b").steps(text) < 10 * 1000**2
    assert cost_of("^a*a*a*b").steps(text) > 1000**3 / 6
    assert cost_of("^" + "a?" * 8 + "b").steps(text) >= 2**8
    assert cost_of("^(?:[ab]{20}){20}c").steps(text) >= 400
    assert cost_of("xa*a*b").steps(text) <= 1000


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "(?:ab)", "(a|b)"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "*?", "{2}", "{1,3}"])
PATTERNS = st.lists(st.tuples(ATOMS, REPEATS).map("".join), min_size=1, max_size=5).map("".join)


def looks(pattern, text) -> int:
    """How often a matcher that tries everything looks at a character."""
    tree = re._parser.parse(pattern)  # type: ignore[attr-defined]
    seen = 0

    def run(items, at, then) -> bool:
        nonlocal seen
        if not items:
            return then(at)
        (kind, given), rest = items[0], items[1:]
        name = str(kind)

        def go_on(at) -> bool:
            return run(rest, at, then)

        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, body = given
            return repeat(list(body), low, min(int(high), len(text)), at, go_on, 0, greedy=name[:3] == "MAX")
        if name == "SUBPATTERN":
            return run(list(given[3]), at, go_on)
        if name == "BRANCH":
            return any(run(list(each), at, go_on) for each in given[1])
        seen += 1
        one = re._parser.SubPattern(tree.state, [(kind, given)])  # type: ignore[attr-defined]
        return at < len(text) and fits(one, text[at]) and go_on(at + 1)

    def repeat(body, low, high, at, then, done, *, greedy) -> bool:
        def again(to) -> bool:
            return to > at and repeat(body, low, high, to, then, done + 1, greedy=greedy)

        ways = [lambda: done < high and run(body, at, again), lambda: done >= low and then(at)]
        return any(way() for way in (ways if greedy else reversed(ways)))

    for start in range(len(text) + 1):
        # As the library does: it looks for what every match begins with, in one go.
        if text.startswith(cost_of(pattern).starts, start) and run(list(tree), start, lambda _at: True):
            break
    return seen


def fits(one, char) -> bool:
    return re._compiler.compile(one).fullmatch(char) is not None  # type: ignore[attr-defined]


@given(pattern=PATTERNS, text=st.text("ab-", max_size=8))
def test_no_more_steps_are_taken_than_were_told(pattern, text) -> None:
    assume(not may_explode(pattern))
    assert looks(pattern, text) <= cost_of(pattern).steps(text)


@pytest.mark.parametrize(
    ("pattern", "size", "fine"),
    [
        ("needle", 1_000_000, True),
        ("^.*needle", 1_000_000, True),
        ("needle.*thread", 1_000_000, True),
        (r"^\d+-\w+@\w+$", 100_000, True),
        (r"\w+@\w+", 4_000, True),
        ("a*b", 5_000, True),
        ("a*b", 20_000, False),
        ("a*a*b", 1_000, False),
        ("a*" * 8 + "b", 100, False),
    ],
)
def test_a_text_that_may_take_too_long_is_refused_and_not_passed_over(pattern, size, fine) -> None:
    where, record = parse_filter("data/list", {"text": {"$regex": pattern}}), {"text": "a" * size}
    assert (cost_of(pattern).steps(record["text"]) <= MOST_STEPS) is fine
    if fine:
        assert matches(where, record) is False
    else:
        with pytest.raises(StoreError, match=f"a text of {size} characters could take it too long; begin"):
            matches(where, record)


@pytest.mark.parametrize("name", ["memory", "sqlite"])
async def test_the_query_fails_for_its_caller_and_the_next_one_is_served(name, tmp_path) -> None:
    opens = {
        "memory": open_memory_backend,
        "sqlite": partial(open_sqlite_backend, lambda user_id: tmp_path / f"{user_id}.db", threads=1),
    }
    async with running((Collection("notes"),), opens[name]) as bus:
        execute = bus.commands.execute
        await execute("data/create", collection="notes", id="long", data={"text": "a" * 50_000})
        await execute("data/create", collection="notes", id="short", data={"text": "aab"})
        filter = {"text": {"$regex": "a*b"}}
        for command in ("data/list", "data/count", "data/query-open"):
            with pytest.raises(StoreError, match=r"match 'a\*b': a text of 50000 characters"):
                await execute(command, collection="notes", filter=filter)
        found = await execute("data/list", collection="notes", filter={**filter, "id": "short"})
        assert [record["id"] for record in found["items"]] == ["short"]


@pytest.mark.parametrize("command", ["data/list", "data/count", "data/query-open"])
async def test_what_is_left_to_the_semantics_ends_with_its_caller_between_two_rows(
    command, tmp_path, monkeypatch
) -> None:
    """The rows are looked at on a thread that nobody can interrupt but the rows themselves."""
    seen, go_on = [], threading.Event()
    token, looking = trio.lowlevel.current_trio_token(), trio.Event()

    def slow(_node, record) -> bool:
        seen.append(record["id"])
        token.run_sync_soon(looking.set)
        assert go_on.wait(10)
        return True

    opens = partial(open_sqlite_backend, lambda user_id: tmp_path / f"{user_id}.db", threads=1)
    async with running((Collection("notes"),), opens) as bus:
        execute = bus.commands.execute
        for id in "abc":
            await execute("data/create", collection="notes", id=id, data={"text": "x"})
        filter = {"text": {"$regex": "x"}}
        with monkeypatch.context() as patched:
            patched.setattr(records, "matches", slow)
            patched.setattr(several, "matches", slow)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(execute, command, collection="notes", filter=filter))
                    await looking.wait()
                    scope.cancel()
            assert scope.cancelled_caught
            go_on.set()
            # There is one thread: when this has been answered, the other is over.
            await execute("data/read", collection="notes", id="a")
        assert seen == ["a"]
        assert await execute("data/count", collection="notes", filter=filter) == {"count": 3}


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@given(pattern=st.text("ab.*+?()[]{}|\\\\^$,1", max_size=12), text=st.text("ab", max_size=6))
def test_whatever_is_let_in_can_be_told_the_cost_of(pattern, text) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        assume(False)
    assume(not may_explode(pattern))
    assert cost_of(pattern).steps(text) >= 0
