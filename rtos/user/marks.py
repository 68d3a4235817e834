"""How far a user has come in a room, when messages are not done in the order they came.

Pure. A read mark says: everything up to here is done. Messages are served by
importance, so the mark may only move up to the oldest one that is still open; a
crash then repeats some that were done, and never forgets one that was not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from rtos.user.entities import UserStateEntity

UNSAVED: Final = 100
"""So often a mark may move before it is stored, by one who has nothing to answer."""


@attrs.frozen(order=True)
class Mark:
    """A place in a room: the timestamp of a message, and its id among equals."""

    at: str
    message_id: str = ""


class RoomProgress:
    """What is open and what is done beyond the mark, in one room.

    Invariant: the mark is below everything that is open, and above everything
    that is done and older than all that is open.
    """

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self._open: dict[str, Mark] = {}
        self._done: set[Mark] = set()

    def begin(self, message: Mark) -> bool:
        """Note a message that is to be done; false if it is done or open already."""
        if message <= self.mark or message in self._done or message.message_id in self._open:
            return False
        self._open[message.message_id] = message
        return True

    def finish(self, message_id: str) -> bool:
        """Note that it is done; true if the mark has moved."""
        message = self._open.pop(message_id, None)
        if message is None:
            return False
        self._done.add(message)
        oldest = min(self._open.values(), default=None)
        passed = {done for done in self._done if oldest is None or done < oldest}
        if not passed:
            return False
        self._done -= passed
        self.mark = max(passed)
        return True

    def holds(self, message_id: str) -> bool:
        """Whether a message is to be done and is not."""
        return message_id in self._open


class Reading:
    """How far a user has come in each of its rooms.

    Args:
      unsaved: how many messages are done already that no stored mark tells of.
    """

    __slots__ = ("_rooms", "unsaved")

    def __init__(self, unsaved: int = 0) -> None:
        self._rooms: dict[str, RoomProgress] = {}
        self.unsaved = unsaved

    def __contains__(self, room_id: object) -> bool:
        return room_id in self._rooms

    def enter(self, room_id: str, mark: Mark) -> None:
        """Begin at a place in a room."""
        self._rooms[room_id] = RoomProgress(mark)

    def take_up(self, state: UserStateEntity) -> None:
        """Begin where a stored state says."""
        for room_id, read in state.room_read_state.items():
            self.enter(room_id, Mark(read.last_read_message_timestamp, read.last_read_message_id or ""))

    def mark(self, room_id: str) -> Mark:
        """Up to where it is done in a room that it has entered."""
        return self._rooms[room_id].mark

    def begin(self, room_id: str, message: Mark) -> bool:
        """Note a message that is to be done; false if it is done or open already, or in no room of its."""
        return room_id in self._rooms and self._rooms[room_id].begin(message)

    def finish(self, room_id: str, *message_ids: str) -> None:
        """Note that messages are done, or need not be."""
        if room_id in self._rooms:
            self.unsaved += sum(map(self._rooms[room_id].finish, message_ids))

    def holds(self, room_id: str, message_id: str) -> bool:
        """Whether a message is to be done and is not."""
        return room_id in self._rooms and self._rooms[room_id].holds(message_id)

    def write_into(self, state: UserStateEntity) -> UserStateEntity:
        """The state with all marks in it, to be stored by whoever asks."""
        self.unsaved = 0
        for room_id, progress in self._rooms.items():
            if progress.mark.message_id:
                state = state.with_read(room_id, progress.mark.message_id, progress.mark.at)
        return state
