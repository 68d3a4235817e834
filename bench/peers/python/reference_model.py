"""A small faithful model of the reference system's timing: what its users wait for, and why.

Built from what that system does, on asyncio, which is a single loop as its own is:

- A message to a persona is an event. Every emission walks three tables of
  subscriptions (exact names, patterns, names with a filter) from end to end.
- The persona scores the message (0.2, and 0.4 for a mention, 0.2 for a fresh one,
  0.1 for a known room) and enqueues it: append, sort the whole inbox, and when it is
  full drop the worst first. Enqueueing says yes even then.
- Taking from the inbox takes at once what lies there; if nothing does, an interval
  looks again every 100 ms.
- With ``--cadence`` the persona is awake only at the beat of its mood, idle 1000,
  active 500, tired 2000, overwhelmed 3000 ms, doubled when its compute budget is
  low, and serves 20 messages a beat. Without it the loop is always at the inbox,
  which flatters the model.
- The reply is an event again, to which the asker subscribed under its own name.

Left out, since it would only slow it: storage, the answer's own work, the limit of
one response per room in 10 s, energy (its second generation switched that off).
The inbox holds 1000, the class's default; a persona's own has 100.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - its single loop is the model's
import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import measure
from measure import clock

if TYPE_CHECKING:
    from collections.abc import Callable

POLL = 0.1
CAPACITY = 1000
BURST = 20
CADENCE = {"idle": 1.0, "active": 0.5, "tired": 2.0, "overwhelmed": 3.0}
PERSONAS = 13
ROOMS = 4
MESSAGE = "data:chat_messages:created"


@dataclass
class Message:
    sender: str
    text: str
    room: str
    timestamp: float
    sent: int = 0
    priority: float = 0.0


class Events:
    """Three tables, walked from end to end at each emission; listeners are called in turn."""

    def __init__(self) -> None:
        self.exact: list[tuple[str, str, Callable[[Message], None]]] = []
        self.patterns: list[tuple[re.Pattern[str], Callable[[Message], None]]] = []
        self.filtered: list[tuple[str, dict[str, str], Callable[[Message], None]]] = []

    def subscribe(self, name: str, subscriber: str, listener: Callable[[Message], None]) -> None:
        """A later subscription of the same subscriber replaces his older one."""
        self.exact = [one for one in self.exact if one[:2] != (name, subscriber)]
        self.exact.append((name, subscriber, listener))

    def emit(self, name: str, message: Message) -> None:
        for wanted, _, listener in self.exact:
            if wanted == name:
                listener(message)
        for pattern, listener in self.patterns:
            if pattern.match(name):
                listener(message)
        for wanted, where, listener in self.filtered:
            if wanted == name and all(getattr(message, key) == value for key, value in where.items()):
                listener(message)


@dataclass
class Inbox:
    items: list[Message] = field(default_factory=list)
    dropped: int = 0

    def enqueue(self, message: Message) -> bool:
        if len(self.items) >= CAPACITY:
            self.items.pop()
            self.dropped += 1
        self.items.append(message)
        self.items.sort(key=lambda item: -item.priority)
        return True

    async def pop(self, timeout: float = 5.0) -> Message | None:  # noqa: ASYNC109 - as it is there
        until = time.monotonic() + timeout
        while not self.items:
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(POLL)
        return self.items.pop(0)


class Persona:
    """Scores what it hears, and serves its inbox, at once or at the beat of its mood."""

    def __init__(self, events: Events, *, has_cadence: bool) -> None:
        self.events = events
        self.inbox = Inbox()
        self.has_cadence = has_cadence
        self.energy = 1.0
        self.budget = 1.0
        self.responses = 0
        self.rooms = {f"room {number}" for number in range(ROOMS)}
        self.seen: Callable[[Message], None] = lambda _: None

    def hears(self, message: Message) -> None:
        text = message.text.lower()
        priority = 0.2 + 0.4 * ("@persona" in text) + 0.1 * (message.room in self.rooms)
        age = time.time() - message.timestamp
        message.priority = min(priority + (0.2 if age < 60 else 0.1 if age < 300 else 0.0), 1.0)
        self.inbox.enqueue(message)

    def beat(self) -> float:
        """Seconds until it next looks, by its mood."""
        if len(self.inbox.items) > 50:
            mood = "overwhelmed"
        elif self.energy < 0.3:
            mood = "tired"
        else:
            mood = "active" if self.responses and self.energy >= 0.5 else "idle"
        return CADENCE[mood] * (2 if self.budget < 0.5 else 1)

    def serve_one(self, message: Message) -> None:
        self.seen(message)
        self.responses += 1
        self.events.emit(f"reply:{message.sender}", message)

    async def live(self) -> None:
        while True:
            if self.has_cadence:
                await asyncio.sleep(self.beat())
                for _ in range(min(BURST, len(self.inbox.items))):
                    self.serve_one(self.inbox.items.pop(0))
            else:
                message = await self.inbox.pop()
                if message is not None:
                    self.serve_one(message)


class Town:
    """One persona that is asked, and the subscriptions of the twelve others beside it."""

    def __init__(self, *, has_cadence: bool) -> None:
        self.events = Events()
        self.persona = Persona(self.events, has_cadence=has_cadence)
        self.events.subscribe("chat:persona", "persona", self.persona.hears)
        for other in range(1, PERSONAS):
            for room in range(ROOMS):
                self.events.subscribe(MESSAGE, f"persona {other} room {room}", lambda _: None)
            self.events.subscribe("data:chat_messages:truncated", f"persona {other}", lambda _: None)
            self.events.patterns.append((re.compile(r"data:rooms:.*$"), lambda _: None))
            self.events.filtered.append((MESSAGE, {"room": f"room {other}"}, lambda _: None))

    def tell(self, sender: str, sent: int = 0) -> None:
        self.events.emit("chat:persona", Message(sender, "@persona, ping", "room 0", time.time(), sent))

    async def ask(self, sender: str) -> None:
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(_: Message) -> None:
            if not reply.done():
                reply.set_result(None)

        self.events.subscribe(f"reply:{sender}", sender, answered)
        self.tell(sender)
        await reply


async def client(town: Town, sender: str, window: measure.Window) -> None:
    limit = measure.TIMEOUT if window.scenario == "round_trip_deadline" else None
    waits: list[int] = []
    began = clock()
    while began < window.until:
        try:
            async with asyncio.timeout(limit):
                await town.ask(sender)
        except TimeoutError:
            window.extra["timeouts"] = int(str(window.extra.get("timeouts", 0))) + 1
            began = clock()
            continue
        ended = clock()
        waits.append(ended - began)
        began = ended
    window.took(waits)


async def round_trips(town: Town, window: measure.Window) -> None:
    clients = measure.CLIENTS if window.scenario == "round_trip_100" else 1
    with window.opened():
        await asyncio.gather(*[client(town, f"client {number}", window) for number in range(clients)])


async def fan_in(town: Town, window: measure.Window) -> None:
    """Each sender its burst, and on when the inbox is empty; what the inbox dropped is no operation."""
    starts = [asyncio.Event()]

    def seen(message: Message) -> None:
        window.operations += 1
        if message.sent:
            window.waits.append(clock() - message.sent)

    async def sender(number: int) -> None:
        turn = 0
        while True:
            await starts[turn].wait()
            turn += 1
            for nth in range(measure.BURST):
                town.tell("nobody", measure.stamped(number, nth))

    town.persona.seen = seen
    senders = [asyncio.ensure_future(sender(number)) for number in range(measure.SENDERS)]
    await asyncio.sleep(0.01)
    with window.opened():
        while not window.is_over:
            starts.append(asyncio.Event())
            starts[-2].set()
            await asyncio.sleep(POLL)
            while town.persona.inbox.items and not window.is_over:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
    window.extra["dropped"] = town.persona.inbox.dropped
    for task in senders:
        task.cancel()


async def busy() -> None:
    while True:
        measure.burn()
        await asyncio.sleep(0)


async def tick(town: Town, window: measure.Window) -> None:
    others = [asyncio.ensure_future(busy()) for _ in range(measure.BUSY)]
    with window.opened():
        grid = measure.Grid(window)
        while (due := grid.next_due()) is not None:
            await asyncio.sleep(max(due - clock(), 0) / 1e9)
            await town.ask("clock")
            grid.answered(due)
    for task in others:
        task.cancel()


async def scenario(window: measure.Window, *, has_cadence: bool) -> None:
    town = Town(has_cadence=has_cadence)
    life = asyncio.ensure_future(town.persona.live())
    await asyncio.sleep(0)
    await {"fan_in": fan_in, "tick": tick}.get(window.scenario, round_trips)(town, window)
    life.cancel()


if __name__ == "__main__":
    is_slow = "--cadence" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--cadence"]
    peer = "reference_cadence" if is_slow else "reference"
    measure.main(peer, lambda window: asyncio.run(scenario(window, has_cadence=is_slow)))
