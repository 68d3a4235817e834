"""The message queue compared with a sorted list, for messages in order and out of order."""

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
def test_head_and_last_are_those_of_a_sorted_list(operations):
    queue, waiting = MessageQueue(knows_last=True), []
    for number, (name, *rest) in enumerate(operations):
        if name == "push":
            message = Message(number, level=rest[0], deadline=rest[1])
            message.arrival = number
            queue.push(message)
            waiting.append(message)
        elif name == "pop":
            expected = min(waiting, key=place, default=None)
            assert queue.pop() is expected
            if expected is not None:
                waiting.remove(expected)
        elif waiting and name == "move":
            message = waiting[rest[2] % len(waiting)]
            message.level, message.deadline = rest[:2]
            queue.push(message)
        elif waiting:
            waiting.pop(rest[0] % len(waiting)).entry = None
            queue.sweep(len(waiting))
        assert queue.head() is min(waiting, key=place, default=None)
        assert queue.last() is max(waiting, key=place, default=None)
        assert set(queue) == set(waiting)
        assert len(list(queue)) == len(waiting)


def test_popped_messages_leave_no_entries():
    queue = MessageQueue()
    early, late = Message("early", level=1), Message("late", level=2)
    for message in (late, early):
        queue.push(message)
    assert [queue.pop(), queue.pop(), queue.pop()] == [early, late, None]
    assert queue.entries() == 0
