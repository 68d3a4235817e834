"""The entities: what may be stored in each collection.

Pure. An entity carries only its collection's own fields; `id`, `version`,
`created_at` and `updated_at` belong to the record around it. Fields that an
entity does not know are no concern of it.

`msgspec.convert(data, type=UserEntity)` checks and fills in, and
`msgspec.to_builtins(entity)` gives what JSON can hold. Both need the annotations
at run time, and neither knows converters: a rule is a validator here, a default
a value, and what depends on another field is filled in after construction.

Law: what converts once converts again, to an equal entity.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import attrs

from rtos.user.content import ContentState, Preferences
from rtos.user.rules import at_least, finite, non_blank, one_segment, short, small, unique, within

UserType = Literal["human", "agent", "persona", "system"]
UserStatus = Literal["online", "offline", "away", "busy", "frozen", "deleted"]
MemoryKind = Literal["passage", "exchange", "fact", "summary"]
ArchiveReason = Literal["corrected", "merged", "faded"]
TaskDomain = Literal["chat", "code", "game", "academy", "analysis", "self"]
TaskType = Literal[
    "respond-to-message",
    "moderate-chat",
    "review-code",
    "debug-issue",
    "write-feature",
    "make-move",
    "analyze-position",
    "complete-exercise",
    "review-material",
    "memory-consolidation",
    "skill-audit",
    "fine-tune-lora",
    "resume-work",
]
TaskStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled"]

MAX_NAME: Final = 100
"""The longest name of a user or a room, in characters."""
MAX_LINE: Final = 500
"""The longest description, topic, heading or source, in characters."""
MAX_TEXT: Final = 16 * 1024
"""The largest chat message or memory, in bytes of UTF-8."""
MAX_ENTRIES: Final = 64
"""The most keywords of a user, and the most sources of a message."""

_ADMINISTERS: Final = ("create_rooms", "invite", "moderate", "access_personas")
_RESPONDS: Final = ("auto_responds", "provides_context")


def _capable(*, administers: bool, responds: bool) -> dict[str, bool]:
    return {**dict.fromkeys(_ADMINISTERS, administers), **dict.fromkeys(_RESPONDS, responds)}


CAPABILITIES: Final[dict[UserType, dict[str, bool]]] = {
    "human": _capable(administers=True, responds=False),
    "agent": _capable(administers=False, responds=False),
    "persona": _capable(administers=False, responds=True),
    "system": _capable(administers=True, responds=False),
}
"""What a user may do unless told otherwise, by type."""


def _known_capabilities(_: object, field: attrs.Attribute[dict[str, bool]], value: dict[str, bool]) -> None:
    unknown = sorted(set(value) - set(CAPABILITIES["human"]))
    if unknown:
        known = ", ".join(CAPABILITIES["human"])
        raise ValueError(f"{field.name} has the unknown {unknown[0]!r}; known are {known}")


@attrs.frozen(kw_only=True)
class UserEntity:
    """A user, human or not. `capabilities` may be given in part; the type's defaults fill the rest."""

    collection: ClassVar[str] = "users"
    search_fields: ClassVar[tuple[str, ...]] = ("display_name", "short_description")
    indexed_fields: ClassVar[tuple[str, ...]] = ("type",)

    type: UserType
    display_name: str = attrs.field(validator=[non_blank, short(MAX_NAME)])
    short_description: str = attrs.field(default="", validator=short(MAX_LINE))
    status: UserStatus = "offline"
    capabilities: dict[str, bool] = attrs.field(factory=dict, validator=_known_capabilities)
    expertise: tuple[str, ...] = attrs.field(
        default=(), validator=[unique, short(MAX_ENTRIES), attrs.validators.deep_iterable(non_blank)]
    )
    """Keywords; a message that holds one of them concerns this user more."""
    last_active_at: str | None = None
    frozen_reason: str = attrs.field(default="", validator=short(MAX_LINE))
    """Why its status is `frozen`, for people."""

    def __attrs_post_init__(self) -> None:
        usual = CAPABILITIES[self.type]
        own = {**usual, **self.capabilities}
        # Users without any of their own, which is nearly all of them, share one mapping.
        object.__setattr__(self, "capabilities", usual if own == usual else own)


PREFERENCES: Final[dict[UserType, Preferences]] = {
    "human": Preferences(),
    "agent": Preferences(max_open_tabs=3, auto_close_after_days=1, remember_scroll=False, sync_devices=False),
    "persona": Preferences(max_open_tabs=5, auto_close_after_days=7, sync_devices=False),
    "system": Preferences(),
}
"""The preferences that a user starts with, by type."""

_NOTHING_OPEN: Final = ContentState()
_USUAL: Final = Preferences()


@attrs.frozen(kw_only=True)
class RoomReadState:
    """How far a user has read, or a persona has worked, in one room."""

    last_read_message_timestamp: str
    last_read_message_id: str | None = None


@attrs.frozen(kw_only=True)
class UserStateEntity:
    """What a user has open and has read, on one device."""

    collection: ClassVar[str] = "user_states"
    search_fields: ClassVar[tuple[str, ...]] = ()

    user_id: str = attrs.field(validator=one_segment)
    device_id: str = attrs.field(default="default", validator=non_blank)
    content_state: ContentState = _NOTHING_OPEN
    preferences: Preferences = _USUAL
    room_read_state: dict[str, RoomReadState] = attrs.field(factory=dict)
    """By room id."""

    @classmethod
    def default(cls, user_id: str, user_type: UserType) -> UserStateEntity:
        """The state that a user starts with."""
        device = "agent-device" if user_type == "agent" else "server-device"
        return cls(user_id=user_id, device_id=device, preferences=PREFERENCES[user_type])

    def with_content(self, content: ContentState) -> UserStateEntity:
        """The state with other items open; the same ones change nothing."""
        return self if content is self.content_state else attrs.evolve(self, content_state=content)

    def with_read(self, room_id: str, message_id: str, timestamp: str) -> UserStateEntity:
        """The state after a message was read or worked on; an older one changes nothing.

        Args:
          room_id: The room of the message.
          message_id: Its id.
          timestamp: Its `created_at`; such timestamps sort as text.
        """
        if not self.is_unread(room_id, timestamp):
            return self
        mark = RoomReadState(last_read_message_timestamp=timestamp, last_read_message_id=message_id)
        return attrs.evolve(self, room_read_state={**self.room_read_state, room_id: mark})

    def last_read(self, room_id: str) -> RoomReadState | None:
        """How far it has come in a room; ``None`` if it has read nothing there."""
        return self.room_read_state.get(room_id)

    def is_unread(self, room_id: str, timestamp: str) -> bool:
        """Whether a message of that `created_at` has not been read yet."""
        mark = self.last_read(room_id)
        return mark is None or timestamp > mark.last_read_message_timestamp


@attrs.frozen(kw_only=True)
class RoomEntity:
    """A room and who is in it."""

    collection: ClassVar[str] = "rooms"
    search_fields: ClassVar[tuple[str, ...]] = ("name", "display_name", "topic")

    name: str = attrs.field(validator=[non_blank, short(MAX_NAME)])
    display_name: str = attrs.field(default="", validator=short(MAX_NAME))
    topic: str = attrs.field(default="", validator=short(MAX_LINE))
    member_ids: tuple[str, ...] = attrs.field(
        default=(), validator=[unique, attrs.validators.deep_iterable(one_segment)]
    )

    def with_member(self, user_id: str) -> RoomEntity:
        """The room after someone joined; who is in it already changes nothing."""
        if user_id in self.member_ids:
            return self
        return attrs.evolve(self, member_ids=(*self.member_ids, user_id))

    def without_member(self, user_id: str) -> RoomEntity:
        """The room after someone left."""
        return attrs.evolve(self, member_ids=tuple(member for member in self.member_ids if member != user_id))


@attrs.frozen(kw_only=True)
class ChatMessageEntity:
    """One message in a room, or the note that a message was answered together with a later one.

    The note is what settles who answers, exactly as a reply does, and is shown to nobody.
    """

    collection: ClassVar[str] = "chat_messages"
    search_fields: ClassVar[tuple[str, ...]] = ("text",)
    indexed_fields: ClassVar[tuple[str, ...]] = ("room_id",)

    room_id: str = attrs.field(validator=non_blank)
    sender_id: str = attrs.field(validator=one_segment)
    sender_type: UserType
    sender_name: str = attrs.field(validator=[non_blank, short(MAX_NAME)])
    text: str = attrs.field(validator=[non_blank, small(MAX_TEXT)])
    reply_to: str | None = None
    """The id of the message that this one answers."""
    sources: tuple[str, ...] = attrs.field(default=(), validator=short(MAX_ENTRIES))
    """Where the answer was found, for people."""
    causal_depth: int = attrs.field(default=0, validator=at_least(0))
    """How many replies lie between this message and one that nobody asked for: 0 for a human's own."""
    covers: tuple[str, ...] = attrs.field(default=(), validator=[unique, short(MAX_ENTRIES)])
    """The ids of the older messages that it answers beside `reply_to`, oldest first."""
    answered_in: str | None = None
    """The id of the reply to a later message that answers `reply_to` as well: then this is the note of it."""


@attrs.frozen(kw_only=True)
class MemoryEntity:
    """Something that a user remembers."""

    collection: ClassVar[str] = "memories"
    search_fields: ClassVar[tuple[str, ...]] = ("heading", "body")
    indexed_fields: ClassVar[tuple[str, ...]] = ("fades_at", "at")
    near_fields: ClassVar[tuple[str, str]] = ("signature", "vector")

    kind: MemoryKind
    body: str = attrs.field(validator=[non_blank, small(MAX_TEXT)])
    source: str = attrs.field(default="", validator=short(MAX_LINE))
    heading: str = attrs.field(default="", validator=short(MAX_LINE))
    at: str | None = None
    """When it happened, where that is not when it was written down."""
    importance: float = attrs.field(default=0.5, validator=[finite, within(0.0, 1.0)])
    stability: float = attrs.field(default=1.0, validator=[finite, at_least(0.01)])
    """In days: after 9 of these without use it is half forgotten."""
    uses: int = attrs.field(default=0, validator=at_least(0))
    last_used: str | None = None
    said_by: str | None = None
    """Whose words they are, by user id; of a document, who wrote it is not known."""
    message_id: str | None = None
    room_id: str | None = None
    supersedes: tuple[str, ...] = attrs.field(default=(), validator=short(MAX_ENTRIES))
    """The ids of what stands in the archive since this took its place."""
    fades_at: str | None = None
    """When it is due to fade, if it does; found from the other fields, and kept for looking it up."""
    signature: str | None = attrs.field(default=None, validator=attrs.validators.optional(short(2048)))
    vector: str | None = attrs.field(default=None, validator=attrs.validators.optional(short(8192)))
    """Both together say what it is near to, where an embedder has looked at it (`rtos.user.embedding`)."""


@attrs.frozen(kw_only=True)
class ArchivedMemoryEntity:
    """A memory that is recalled no more, as it was; under the id that it had."""

    collection: ClassVar[str] = "archived_memories"
    search_fields: ClassVar[tuple[str, ...]] = ()

    memory: MemoryEntity
    reason: ArchiveReason
    superseded_by: str | None = None
    """The id of what took its place."""
    at: str
    """When that was."""


@attrs.frozen(kw_only=True)
class TaskResult:
    """What came of a task."""

    success: bool
    output: str = attrs.field(default="", validator=small(MAX_TEXT))
    error: str = attrs.field(default="", validator=short(MAX_LINE))
    """Why it failed or was cancelled, for people."""
    metrics: dict[str, float] = attrs.field(
        factory=dict,
        validator=[
            short(MAX_ENTRIES),
            attrs.validators.deep_mapping(short(MAX_NAME), finite),
        ],
    )


@attrs.frozen(kw_only=True)
class TaskEntity:
    """Something that a user is to do. Times are timestamps in the form of the records' own.

    A task may depend only on tasks that were there before it, and never on others later, so
    no task waits for itself.
    """

    collection: ClassVar[str] = "tasks"
    search_fields: ClassVar[tuple[str, ...]] = ("description",)
    indexed_fields: ClassVar[tuple[str, ...]] = ("assignee_id", "status", "due_date")

    assignee_id: str = attrs.field(validator=one_segment)
    created_by: str = attrs.field(validator=one_segment)
    domain: TaskDomain = "chat"
    task_type: TaskType = "respond-to-message"
    context_id: str | None = attrs.field(default=None, validator=attrs.validators.optional(short(MAX_LINE)))
    """What it is about; in the domain `chat` the room where the outcome is told."""
    # So that what came of it has room beside it in one memory.
    description: str = attrs.field(validator=[non_blank, small(MAX_TEXT // 4)])
    priority: float = attrs.field(default=0.5, validator=[finite, within(0.0, 1.0)])
    due_date: str | None = None
    estimated_duration: float | None = attrs.field(
        default=None, validator=attrs.validators.optional([finite, at_least(0.0)])
    )
    """Seconds."""
    status: TaskStatus = "pending"
    attempts: int = attrs.field(default=0, validator=at_least(0))
    """How many times it was begun."""
    started_at: str | None = None
    completed_at: str | None = None
    """When it ended, however it did."""
    overdue_at: str | None = None
    """When it was told that it is overdue."""
    result: TaskResult | None = None
    depends_on: tuple[str, ...] = attrs.field(default=(), validator=[unique, short(MAX_ENTRIES)])
    """The ids of the tasks that have to be completed first."""
    blocked_by: tuple[str, ...] = attrs.field(default=(), validator=[unique, short(MAX_ENTRIES)])
    """Those of them that are not completed yet."""


ENTITIES: Final = {
    entity.collection: entity
    for entity in (
        UserEntity,
        UserStateEntity,
        RoomEntity,
        ChatMessageEntity,
        MemoryEntity,
        ArchivedMemoryEntity,
        TaskEntity,
    )
}
"""The entity of every collection, by the collection's name."""
