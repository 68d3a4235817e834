"""A port at twice the load that it can serve: most of its work is answered in time.

A worker takes 10 ms for a request, and 200 requests per second arrive with deadlines of
50 ms. A server with a first-in, first-out queue answers one in a hundred in time, since it
works on requests that have expired already.
"""

from __future__ import annotations

import random

import pytest
import trio

from rtos.errors import DeadlineMissed, MailboxFull
from rtos.scheduler import CallStatistics, Scheduler, open_scheduler
from rtos.scheduler.calls.port import Port

SERVICE = 0.010
RATE = 200
DEADLINE = 0.050
SECONDS = 6


class Server:
    """Serves one request at a time; counts the requests that it started, and their outcomes."""

    def __init__(self, scheduler: Scheduler, capacity: float) -> None:
        self.scheduler = scheduler
        self.port = Port(scheduler, "server", capacity=capacity)
        self.kind = CallStatistics("server/work")
        self.begun = 0
        self.in_time = 0
        self.missed = 0
        self.refused = 0

    async def work(self, _: object) -> None:
        self.begun += 1
        await trio.sleep(SERVICE)

    async def client(self) -> None:
        try:
            await self.port.call(None, deadline=trio.current_time() + DEADLINE, statistics=self.kind)
            self.in_time += 1
        except DeadlineMissed:
            self.missed += 1
        except MailboxFull:
            self.refused += 1


@pytest.mark.parametrize("capacity", [1000, 4])
@pytest.mark.parametrize("seed", range(5))
async def test_port_at_twice_its_capacity_answers_in_time_what_it_accepts(
    autojump_clock: trio.testing.MockClock, seed: int, capacity: int
) -> None:
    chance = random.Random(seed)
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        server = Server(scheduler, capacity)
        context = scheduler.context("server", level=2)
        with context:
            nursery.start_soon(lambda: server.port.serve(server.work, context=context))
        async with trio.open_nursery() as clients:
            end = trio.current_time() + SECONDS
            while trio.current_time() < end:
                clients.start_soon(server.client)
                await trio.sleep(chance.expovariate(RATE))
        nursery.cancel_scope.cancel()
        possible = SECONDS / SERVICE
        assert server.in_time >= 0.85 * possible
        assert server.begun - server.in_time <= 0.10 * server.begun
        # Every client got an outcome, and no call was lost.
        statistics = server.port.queue.statistics
        assert statistics.conserved()
        assert statistics.waiting == 0
        assert statistics.accepted == server.in_time + server.missed
        assert statistics.refused == server.refused


async def test_full_port_can_be_inspected_and_suspended_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scheduler(quantum=0) as scheduler, trio.open_nursery() as nursery:
        server = Server(scheduler, capacity=50)
        context = scheduler.context("server", level=2)
        with context:
            nursery.start_soon(lambda: server.port.serve(server.work, context=context))
        for _ in range(60):
            nursery.start_soon(server.client)
        await trio.sleep(SERVICE / 2)
        assert len(server.port.queue) == 50
        # Inspection and suspension do not queue behind the calls: no task runs a step
        # between the request and the answer.
        before = scheduler.statistics().passes
        server.port.suspend()
        assert server.port.queue.statistics.waiting == 51
        assert scheduler.statistics().passes == before
        begun = server.begun
        await trio.sleep(DEADLINE / 2)
        assert server.begun == begun
        server.port.resume()
        await trio.sleep(SERVICE)
        assert server.begun > begun
        nursery.cancel_scope.cancel()
