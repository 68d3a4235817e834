"""Rhealstone (Kar & Porter 1989, 1990): six latencies of a kernel, each over many repetitions.

Task switch, preemption, interrupt latency, semaphore shuffle, deadlock break and one-way
messages. The deadlock break measures priority inversion: an urgent task calls a busy server
while a task of a level in between is ready, with and without priority inheritance. It runs in
virtual time, since only the order of the steps matters.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio
import trio.testing

from bench.harness import Benchmark, Sample, Size, Stopwatch
from rtos.scheduler import open_mailbox, open_port, open_scheduler
from rtos.testing import run_virtual, spend

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS: Final = 10
"""Steps of the task in between, 1 ms each."""


def _abort(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def _task_switch(rounds: int) -> Sample:
    """Two tasks of one level take turns; from the end of one step to the start of the next."""
    latencies: list[int] = []
    left = 0

    async def turn() -> None:
        nonlocal left
        for _ in range(rounds // 2):
            if left:
                latencies.append(perf_counter_ns() - left)
            left = perf_counter_ns()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async with open_scheduler() as scheduler:
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for name in "ab":
                    with scheduler.context(name, level=4):
                        nursery.start_soon(turn)
    return watch.sample(len(latencies), latencies=latencies)


async def _preemption(rounds: int) -> Sample:
    """A less urgent task wakes a more urgent one, and yields."""
    latencies: list[int] = []
    parked: list[trio.lowlevel.Task] = []
    sent = 0

    async def urgent() -> None:
        parked.append(trio.lowlevel.current_task())
        while True:
            await trio.lowlevel.wait_task_rescheduled(_abort)
            latencies.append(perf_counter_ns() - sent)

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("urgent", level=1):
            nursery.start_soon(urgent)
        await trio.testing.wait_all_tasks_blocked()
        with Stopwatch() as watch:
            for _ in range(rounds):
                sent = perf_counter_ns()
                trio.lowlevel.reschedule(parked[0])
                await trio.lowlevel.cancel_shielded_checkpoint()
        nursery.cancel_scope.cancel()
    assert len(latencies) == rounds
    return watch.sample(rounds, latencies=latencies)


async def _interrupt(rounds: int) -> Sample:
    """From a post in another thread until the task runs, while the loop sleeps."""
    latencies: list[int] = []
    token, turn, woken = trio.lowlevel.current_trio_token(), threading.Semaphore(0), trio.Event()
    sent = 0

    def wake() -> None:
        woken.set()

    def interrupting() -> None:
        nonlocal sent
        for _ in range(rounds):
            turn.acquire()
            sent = perf_counter_ns()
            token.run_sync_soon(wake)

    async with open_scheduler() as scheduler:
        thread = threading.Thread(target=interrupting)
        with scheduler.context("handler", level=0), Stopwatch() as watch:
            thread.start()
            for _ in range(rounds):
                turn.release()
                await woken.wait()
                latencies.append(perf_counter_ns() - sent)
                woken = trio.Event()
        thread.join()
    return watch.sample(rounds, latencies=latencies)


async def _shuffle(rounds: int) -> Sample:
    """Two tasks take turns at one semaphore; each release wakes the waiting one."""
    latencies: list[int] = []
    semaphore = trio.Semaphore(1)
    freed = 0

    async def want() -> None:
        nonlocal freed
        for _ in range(rounds // 2):
            await semaphore.acquire()
            if freed:
                latencies.append(perf_counter_ns() - freed)
            # Let the other task wait for the semaphore.
            await trio.lowlevel.cancel_shielded_checkpoint()
            freed = perf_counter_ns()
            semaphore.release()

    async with open_scheduler():
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(want)
                nursery.start_soon(want)
    return watch.sample(len(latencies), latencies=latencies)


async def _deadlock_break(rounds: int, *, inherits: bool) -> Sample:
    """A server runs a call of level 7, a task of level 3 is ready, and a task of level 0 calls the server."""
    waits: list[float] = []

    async def use(_: object) -> None:
        for _ in range(2):
            spend(0.001)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async with (
        open_scheduler(quantum=0, reserve=0) as scheduler,
        open_port(scheduler, "server", use, level=7) as port,
    ):

        async def call() -> None:
            await port.call(None)

        async def call_without() -> None:
            # Like a plain lock: its owner inherits nothing from the tasks that wait.
            with scheduler.context("messenger", level=7):
                async with trio.open_nursery() as errand:
                    errand.start_soon(call)

        async def between() -> None:
            for _ in range(STEPS):
                spend(0.001)
                await trio.lowlevel.cancel_shielded_checkpoint()

        async def urgent() -> None:
            began = trio.current_time()
            await (call if inherits else call_without)()
            waits.append(trio.current_time() - began)

        with Stopwatch() as watch:
            for _ in range(rounds):
                async with trio.open_nursery() as players:
                    with scheduler.context("low", level=7):
                        players.start_soon(call)
                    await trio.sleep(0.0005)
                    for name, level, body in (("between", 3, between), ("urgent", 0, urgent)):
                        with scheduler.context(name, level=level):
                            players.start_soon(body)
    return watch.sample(rounds, virtual_wait_ms=1e3 * sum(waits) / len(waits))


async def _one_way(rounds: int, length: int) -> Sample:
    """A message of ``length`` bytes, copied by the sender, to a waiting task."""
    latencies: list[int] = []
    send, receive = open_mailbox[tuple[int, bytearray]](1)
    payload = bytes(length)

    async def take() -> None:
        async for sent, message in receive:
            latencies.append(perf_counter_ns() - sent)
            assert len(message) == length

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("receiver", level=1):
            nursery.start_soon(take)
        with Stopwatch() as watch, send:
            for _ in range(rounds):
                await send.send((perf_counter_ns(), bytearray(payload)))
    return watch.sample(len(latencies), latencies=latencies)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """The six latencies."""
    rounds = size.of(20, 2000, 5000)
    few = size.of(3, 50, 50)
    real: dict[str, Any] = {
        "1 task switch": _task_switch,
        "2 preemption": _preemption,
        "3 interrupt latency": _interrupt,
        "4 semaphore shuffle": _shuffle,
        **{f"6 message, {length} bytes": partial(_one_way, length=length) for length in (1, 64, 4096)},
    }
    found: dict[str, Callable[[], Sample]] = {
        name: partial(trio.run, body, rounds) for name, body in real.items()
    }
    for inherits in (True, False):
        name = f"5 deadlock break, {'with' if inherits else 'without'} inheritance"
        found[name] = partial(run_virtual, partial(_deadlock_break, inherits=inherits), few)
    return dict(sorted(found.items(), key=lambda row: row[0][0]))


BENCHMARK = Benchmark(
    name="rhealstone",
    summary="the six latencies of Rhealstone",
    unit="repetition",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["rhealstone", *sys.argv[1:]]))
