"""What a user has open, and how it prefers that to be kept.

Pure: the present comes in as a timestamp in the form of the records' own, which sort
as text. What the fields of a state mean beyond this is `rtos.user.entities`'s concern.

Order: what was opened last comes first. Invariant: no id twice, and what is in front
is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from rtos.user.rules import at_least, finite, non_blank, short, within

if TYPE_CHECKING:
    from collections.abc import Iterable

ItemType = Literal["chat", "document", "user-profile", "system-config", "widget-debug", "data-explorer"]
ItemPriority = Literal["low", "normal", "high", "urgent"]
Scalar = str | int | float | bool | None

MAX_TITLE: Final = 500
"""The longest title, subtitle, id of an item or text in its metadata, in characters."""
MAX_ENTITY_ID: Final = 200
"""The longest id of what is open, in characters."""
MAX_METADATA: Final = 16
"""The most that is noted of an item besides."""
MAX_KEY: Final = 100
"""The longest name of such a note, in characters."""
_INTEGERS: Final = range(-(2**63), 2**63)


@attrs.frozen(kw_only=True)
class Preferences:
    """How a user's open items are kept."""

    max_open_tabs: int = attrs.field(default=10, validator=within(1, 50))
    auto_close_after_days: int = attrs.field(default=30, validator=at_least(1))
    remember_scroll: bool = True
    sync_devices: bool = True


def _storable(instance: object, field: attrs.Attribute[Any], value: Scalar) -> None:
    if isinstance(value, str):
        short(MAX_TITLE)(instance, field, value)
    elif isinstance(value, float):
        finite(instance, field, value)
    elif value is not None and value not in _INTEGERS:
        raise ValueError(f"{field.name} has a number of more than 64 bits; give it as text")


@attrs.frozen(kw_only=True)
class ContentItem:
    """One thing that a user has open."""

    id: str = attrs.field(validator=[non_blank, short(MAX_TITLE)])
    type: ItemType
    entity_id: str = attrs.field(validator=[non_blank, short(MAX_ENTITY_ID)])
    title: str = attrs.field(default="", validator=short(MAX_TITLE))
    subtitle: str | None = attrs.field(default=None, validator=attrs.validators.optional(short(MAX_TITLE)))
    last_accessed_at: str | None = None
    priority: ItemPriority = "normal"
    metadata: dict[str, Scalar] = attrs.field(
        factory=dict,
        validator=[
            short(MAX_METADATA),
            attrs.validators.deep_mapping(attrs.validators.and_(non_blank, short(MAX_KEY)), _storable),
        ],
    )
    """What whoever shows it wants to find again: where it was scrolled to, for example."""

    def is_same(self, other: ContentItem) -> bool:
        """Whether both are one item: by their ids, or because the same thing is open in both."""
        return self.id == other.id or (self.type, self.entity_id) == (other.type, other.entity_id)

    def is_older(self, before: str) -> bool:
        """Whether it was last looked at before a timestamp; of one without a time that is not known."""
        return self.last_accessed_at is not None and self.last_accessed_at < before


@attrs.frozen(kw_only=True)
class ContentState:
    """What a user has open, newest first, and which of it is in front."""

    open_items: tuple[ContentItem, ...] = ()
    current_item_id: str | None = None
    last_updated_at: str | None = None

    def __attrs_post_init__(self) -> None:
        ids = [item.id for item in self.open_items]
        if len(set(ids)) != len(ids):
            raise ValueError("open_items has one id twice; close the older item first")
        if self.current_item_id is not None and self.current_item_id not in ids:
            raise ValueError(f"current_item_id {self.current_item_id!r} is not open; name one of open_items")

    def item(self, item_id: str) -> ContentItem | None:
        """The open item of an id."""
        return next((item for item in self.open_items if item.id == item_id), None)

    def showing(self, type: ItemType, entity_id: str) -> ContentItem | None:
        """The item in which something is open."""
        return next((one for one in self.open_items if (one.type, one.entity_id) == (type, entity_id)), None)

    def shows(self, type: ItemType, entity_id: str) -> bool:
        """Whether something is open and in front."""
        front = None if self.current_item_id is None else self.item(self.current_item_id)
        return front is not None and (front.type, front.entity_id) == (type, entity_id)

    def with_open(self, item: ContentItem, *, limit: int, at: str) -> ContentState:
        """The state after something was opened, or opened again: it is the first item, and current.

        Args:
          item: what is opened; replaces what is open of it.
          limit: how many items may be open, 1 or more; the last ones are closed.
          at: the present.
        """
        front = attrs.evolve(item, last_accessed_at=at)
        others = (one for one in self.open_items if not one.is_same(item))
        return ContentState(open_items=(front, *others)[:limit], current_item_id=item.id, last_updated_at=at)

    def without(self, item_id: str, *, at: str) -> ContentState:
        """The state after an item was closed, at the present ``at``; one that is not open changes nothing."""
        return self._left(at, (one for one in self.open_items if one.id != item_id))

    def without_old(self, before: str, *, at: str) -> ContentState:
        """The state without what was looked at last before a timestamp, but for what is urgent."""
        kept = (one for one in self.open_items if one.priority == "urgent" or not one.is_older(before))
        return self._left(at, kept)

    def _left(self, at: str, items: Iterable[ContentItem]) -> ContentState:
        """The state when only these are left of it; if the current one is not, the first is current."""
        left = tuple(items)
        if len(left) == len(self.open_items):
            return self
        current = self.current_item_id
        if current is not None and all(one.id != current for one in left):
            current = left[0].id if left else None
        return ContentState(open_items=left, current_item_id=current, last_updated_at=at)
