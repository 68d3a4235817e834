"""Thespian on its simple base: all actors in one thread, which runs while somebody tells or asks.

A `tell` returns only when nothing is queued any more, so whatever is to run side by
side is started by one actor that is told once.
"""

from __future__ import annotations

from datetime import timedelta

import measure
from measure import clock
from thespian.actors import Actor, ActorAddress, ActorSystem, WakeupMessage

WINDOW = measure.Window("thespian", "", 0)


class Echo(Actor):
    def receiveMessage(self, message: object, sender: ActorAddress) -> None:  # noqa: N802 - its name
        self.send(sender, message)


class Starter(Actor):
    """Sends each its first message."""

    def receiveMessage(self, message: list[tuple[ActorAddress, object]], _: ActorAddress) -> None:  # noqa: N802
        for target, first in message:
            self.send(target, first)


class Client(Actor):
    """Told where the server is, asks until the time is up."""

    def receiveMessage(self, message: object, _: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, ActorAddress):
            self.server = message
        else:
            WINDOW.took([clock() - self.began])
        self.began = clock()
        if self.began < WINDOW.until:
            self.send(self.server, 1)


class Receiver(Actor):
    def receiveMessage(self, message: int, _: ActorAddress) -> None:  # noqa: N802
        WINDOW.operations += 1
        if message:
            WINDOW.waits.append(clock() - message)


class Sender(Actor):
    """Told its number and where the receiver is, sends a burst."""

    def receiveMessage(self, message: tuple[int, ActorAddress], _: ActorAddress) -> None:  # noqa: N802
        number, receiver = message
        for nth in range(measure.BURST):
            self.send(receiver, measure.stamped(number, nth))


class Busy(Actor):
    def receiveMessage(self, message: object, _: ActorAddress) -> None:  # noqa: N802
        measure.burn()
        if not WINDOW.is_over:
            self.send(self.myAddress, message)


class Clock(Actor):
    """Told where the server is, asks it at each instant of the grid."""

    def receiveMessage(self, message: object, _: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, WakeupMessage):
            self.send(self.server, 1)
            return
        if isinstance(message, ActorAddress):
            self.server = message
            self.grid = measure.Grid(WINDOW)
        else:
            self.grid.answered(self.due)
        due = self.grid.next_due()
        if due is not None:
            self.due = due
            self.wakeupAfter(timedelta(microseconds=max(due - clock(), 0) / 1e3))


def ask(system: ActorSystem) -> None:
    server = system.createActor(Echo)
    limit = measure.TIMEOUT if WINDOW.scenario == "round_trip_deadline" else None
    waits: list[int] = []
    with WINDOW.opened():
        began = clock()
        while began < WINDOW.until:
            system.ask(server, 1, limit)
            ended = clock()
            waits.append(ended - began)
            began = ended
        WINDOW.took(waits)


def crowd(system: ActorSystem) -> None:
    server = system.createActor(Echo)
    starter = system.createActor(Starter)
    first = [(system.createActor(Client), server) for _ in range(measure.CLIENTS)]
    with WINDOW.opened():
        system.tell(starter, first)


def fan_in(system: ActorSystem) -> None:
    receiver = system.createActor(Receiver)
    starter = system.createActor(Starter)
    first = [(system.createActor(Sender), (number, receiver)) for number in range(measure.SENDERS)]
    with WINDOW.opened():
        while not WINDOW.is_over:
            system.tell(starter, first)


def tick(system: ActorSystem) -> None:
    server = system.createActor(Echo)
    starter = system.createActor(Starter)
    first = [(system.createActor(Busy), "go") for _ in range(measure.BUSY)]
    first.append((system.createActor(Clock), server))
    with WINDOW.opened():
        system.tell(starter, first)


def run(window: measure.Window) -> None:
    global WINDOW  # noqa: PLW0603 - actors are made by name, and reach it so
    WINDOW = window
    system = ActorSystem("simpleSystemBase")
    {"round_trip_100": crowd, "fan_in": fan_in, "tick": tick}.get(window.scenario, ask)(system)
    system.shutdown()


if __name__ == "__main__":
    measure.main("thespian", run)
