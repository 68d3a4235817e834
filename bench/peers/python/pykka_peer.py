"""pykka: an actor is a thread; a request is `ask`, which makes a future, and blocks its thread for it."""

from __future__ import annotations

import threading
import time
from typing import Any

import measure
import pykka
from measure import clock


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: int) -> int:
        return message


class Client(pykka.ThreadingActor):
    """Asks until the time is up."""

    def __init__(self, server: pykka.ActorRef[Echo], window: measure.Window) -> None:
        super().__init__()
        self.server = server
        self.window = window
        self.timeout = measure.TIMEOUT if window.scenario == "round_trip_deadline" else None

    def on_receive(self, _: object) -> list[int]:
        waits: list[int] = []
        began = clock()
        while began < self.window.until:
            self.server.ask(1, timeout=self.timeout)
            ended = clock()
            waits.append(ended - began)
            began = ended
        return waits


class Receiver(pykka.ThreadingActor):
    """Counts a burst, and says when all of it has come."""

    def __init__(self, window: measure.Window, is_done: threading.Event) -> None:
        super().__init__()
        self.window = window
        self.is_done = is_done
        self.left = measure.SENDERS * measure.BURST

    def on_receive(self, sent: int) -> None:
        if sent:
            self.window.waits.append(clock() - sent)
        self.left -= 1
        if not self.left:
            self.left = measure.SENDERS * measure.BURST
            self.is_done.set()


class Sender(pykka.ThreadingActor):
    def __init__(self, receiver: pykka.ActorRef[Receiver], number: int) -> None:
        super().__init__()
        self.receiver = receiver
        self.number = number

    def on_receive(self, _: object) -> None:
        for nth in range(measure.BURST):
            self.receiver.tell(measure.stamped(self.number, nth))


class Busy(pykka.ThreadingActor):
    """Tells itself to go on; between two steps it offers the interpreter to the others."""

    def on_receive(self, message: object) -> None:
        measure.burn()
        time.sleep(0)  # noqa: TID251 - without it a thread keeps the interpreter for 5 ms
        self.actor_ref.tell(message)


def round_trips(window: measure.Window, count: int) -> None:
    server = Echo.start()
    clients = [Client.start(server, window) for _ in range(count)]
    with window.opened():
        for waits in pykka.get_all([client.ask("go", block=False) for client in clients]):
            window.took(waits)


def fan_in(window: measure.Window) -> None:
    is_done = threading.Event()
    receiver = Receiver.start(window, is_done)
    senders = [Sender.start(receiver, number) for number in range(measure.SENDERS)]
    with window.opened():
        while not window.is_over:
            is_done.clear()
            for sender in senders:
                sender.tell("go")
            is_done.wait()
            window.operations += measure.SENDERS * measure.BURST


def tick(window: measure.Window) -> None:
    server = Echo.start()
    busy: list[pykka.ActorRef[Any]] = [Busy.start() for _ in range(measure.BUSY)]
    for each in busy:
        each.tell("go")
    with window.opened():
        grid = measure.Grid(window)
        while (due := grid.next_due()) is not None:
            time.sleep(max(due - clock(), 0) / 1e9)  # noqa: TID251 - a thread waits so
            server.ask(1)
            grid.answered(due)


def run(window: measure.Window) -> None:
    if window.scenario == "fan_in":
        fan_in(window)
    elif window.scenario == "tick":
        tick(window)
    else:
        round_trips(window, measure.CLIENTS if window.scenario == "round_trip_100" else 1)
    pykka.ActorRegistry.stop_all(block=False)


if __name__ == "__main__":
    measure.main("pykka", run)
