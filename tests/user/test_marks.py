from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtos.user.marks import Mark, RoomProgress


def _mark(number: int) -> Mark:
    return Mark(f"{number:04}", f"m{number}")


def test_the_mark_waits_for_the_oldest_that_is_open() -> None:
    progress = RoomProgress(_mark(0))
    for number in (1, 2, 3):
        assert progress.begin(_mark(number))
    assert not progress.finish("m3")  # 1 and 2 are open
    assert not progress.finish("m2")  # 1 is open
    assert progress.mark == _mark(0)
    assert progress.finish("m1")  # nothing is open: all three are passed
    assert progress.mark == _mark(3)


def test_what_is_done_or_open_does_not_begin_again() -> None:
    progress = RoomProgress(_mark(5))
    assert not progress.begin(_mark(5))  # the mark itself is done
    assert not progress.begin(_mark(4))
    assert progress.begin(_mark(7))
    assert not progress.begin(_mark(7))  # open
    assert progress.begin(_mark(6))
    progress.finish("m7")
    assert not progress.begin(_mark(7))  # done beyond the mark
    assert progress.mark == _mark(5)


def test_equal_timestamps_are_told_apart_by_id() -> None:
    progress = RoomProgress(Mark("1", "b"))
    assert progress.begin(Mark("1", "c"))
    assert not progress.begin(Mark("1", "a"))


def test_finishing_what_is_not_open_changes_nothing() -> None:
    progress = RoomProgress(_mark(1))
    assert not progress.finish("m9")
    assert progress.mark == _mark(1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12))))
def test_a_restart_at_the_mark_forgets_nothing_that_was_open(moves: list[tuple[bool, int]]) -> None:
    progress = RoomProgress(_mark(0))
    begun: set[int] = set()
    done: set[int] = set()
    for begins, number in moves:
        if begins:
            taken = progress.begin(_mark(number))
            assert taken == (_mark(number) > progress.mark and number not in begun)
            if taken:
                begun.add(number)
        elif number in begun - done:
            progress.finish(f"m{number}")
            done.add(number)
        # Who starts again at the mark hears of everything that was open.
        assert all(_mark(number) > progress.mark for number in begun - done)
        # And the mark stands at something that was done, and as far as it may.
        oldest = min(begun - done, default=99)
        passed = [n for n in done if n < oldest]
        assert progress.mark >= max((_mark(n) for n in passed), default=_mark(0))
