"""Messages in line against a sorted list, whatever comes in order and whatever overtakes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.policy.message_queue import Message, MessageQueue

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 2), st.sampled_from([1.0, 2.0, math.inf])),
        st.tuples(st.just("move"), st.integers(0, 2), st.sampled_from([1.0, math.inf]), st.integers(0)),
        st.tuples(st.just("leave"), st.integers(0)),
        st.tuples(st.just("pop")),
    ),
    max_size=200,
)


def place(message):
    return message.level, message.deadline, message.arrival


@given(OPERATIONS)
def test_the_first_and_the_last_are_those_of_a_sorted_list(operations):
    line, waiting = MessageQueue(knows_last=True), []
    for number, (name, *rest) in enumerate(operations):
        if name == "push":
            message = Message(number, level=rest[0], deadline=rest[1])
            message.arrival = number
            line.push(message)
            waiting.append(message)
        elif name == "pop":
            expected = min(waiting, key=place, default=None)
            assert line.pop() is expected
            if expected is not None:
                waiting.remove(expected)
        elif waiting and name == "move":
            message = waiting[rest[2] % len(waiting)]
            message.level, message.deadline = rest[:2]
            line.push(message)
        elif waiting:
            waiting.pop(rest[0] % len(waiting)).entry = None
            line.sweep(len(waiting))
        assert line.head() is min(waiting, key=place, default=None)
        assert line.last() is max(waiting, key=place, default=None)
        assert set(line) == set(waiting)
        assert len(list(line)) == len(waiting)


def test_what_is_popped_is_let_go():
    line = MessageQueue()
    early, late = Message("early", level=1), Message("late", level=2)
    for message in (late, early):
        line.push(message)
    assert [line.pop(), line.pop(), line.pop()] == [early, late, None]
    assert line.entries() == 0
