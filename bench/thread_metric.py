"""Thread-Metric: the eight tests of eclipse-threadx, on tasks and levels instead of threads.

Each counts the iterations of its loop. The first test sums 1024 integers, which measures the
machine and the interpreter; the others are given relative to it.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from bench.harness import Benchmark, Sample, Size, Stopwatch
from bench.switching import short_switch_interval
from rtos.scheduler import open_mailbox, open_port, open_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE: Final = bytes(16)


def _basic(rounds: int) -> Sample:
    cells = list(range(1024))
    with Stopwatch() as watch:
        for c in range(rounds):
            for index in range(1024):
                cells[index] = (cells[index] + c ^ cells[index]) & 0xFFFFFFFF
    return watch.sample(rounds)


async def _cooperative(rounds: int, *, contexts: int) -> Sample:
    """Five tasks of one level yield in turn; none may be two turns ahead of another.

    The tasks share one context, or have one each.
    """
    turns = [0] * 5
    spread = 0

    async def yielding(mine: int) -> None:
        nonlocal spread
        for _ in range(rounds):
            turns[mine] += 1
            spread = max(spread, turns[mine] - min(turns))
            await trio.lowlevel.cancel_shielded_checkpoint()

    async with open_scheduler() as scheduler:
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                owners = [scheduler.context(f"task {mine}", level=4) for mine in range(contexts)]
                for mine in range(5):
                    with owners[mine % contexts]:
                        nursery.start_soon(yielding, mine)
    return watch.sample(sum(turns), count_spread=spread)


async def _cooperative_trio(rounds: int) -> Sample:
    async def yielding() -> None:
        for _ in range(rounds):
            await trio.lowlevel.cancel_shielded_checkpoint()

    with Stopwatch() as watch:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(yielding)
    return watch.sample(5 * rounds)


async def _preemptive(rounds: int) -> Sample:
    """Five levels: each task wakes that of the next more urgent level, and goes on when it is done."""
    order: list[int] = []
    wrong = 0
    parked: dict[int, trio.lowlevel.Task] = {}

    async def above(level: int) -> None:
        while True:
            parked[level] = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            await body(level)

    async def body(level: int) -> None:
        if level:
            trio.lowlevel.reschedule(parked[level - 1])
            await trio.lowlevel.cancel_shielded_checkpoint()
        order.append(level)

    # Without a reserve, which would sometimes let level 4 run out of turn.
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        with ExitStack() as stack:
            for level in range(4):
                context = scheduler.context(f"level {level}", level=level)
                with context:
                    nursery.start_soon(above, level)
            stack.enter_context(scheduler.context("level 4", level=4))
            done = trio.Event()
            found: list[Stopwatch] = []

            async def lowest() -> None:
                nonlocal wrong
                await trio.lowlevel.checkpoint()
                with Stopwatch() as watch:
                    for _ in range(rounds):
                        await body(4)
                        wrong += order != [0, 1, 2, 3, 4]
                        order.clear()
                found.append(watch)
                done.set()

            nursery.start_soon(lowest)
        await done.wait()
        nursery.cancel_scope.cancel()
    return found[0].sample(5 * rounds, count_out_of_order=wrong)


async def _interrupt(rounds: int, *, preempts: bool) -> Sample:
    """A post from another thread wakes a task; with ``preempts`` one that is more urgent than a busy task."""
    token = trio.lowlevel.current_trio_token()
    turn, handled = threading.Semaphore(0), 0
    woken = trio.Event()
    stop: list[bool] = []
    ran_between = 0

    def wake() -> None:
        woken.set()

    def interrupting() -> None:
        for _ in range(rounds):
            token.run_sync_soon(wake)
            turn.acquire()

    async def handler() -> None:
        nonlocal woken, handled
        for _ in range(rounds):
            await woken.wait()
            woken = trio.Event()
            handled += 1
            turn.release()
        stop.append(True)

    async def background() -> None:
        nonlocal ran_between
        while not stop:
            ran_between += woken.is_set()
            await trio.lowlevel.cancel_shielded_checkpoint()

    with short_switch_interval():
        async with open_scheduler(reserve=0) as scheduler:
            thread = threading.Thread(target=interrupting)
            with Stopwatch() as watch:
                async with trio.open_nursery() as nursery:
                    with scheduler.context("handler", level=1):
                        nursery.start_soon(handler)
                    if preempts:
                        with scheduler.context("background", level=5):
                            nursery.start_soon(background)
                    thread.start()
            thread.join()
    return watch.sample(handled, count_overtaken=ran_between)


async def _message(way: Callable[[Any, int], Any], rounds: int) -> Sample:
    async with open_scheduler() as scheduler:
        with Stopwatch() as watch:
            await way(scheduler, rounds)
    return watch.sample(rounds)


async def _no_wait(_: Any, rounds: int) -> None:
    send, receive = open_mailbox[bytes](1)
    with send, receive:
        for _ in range(rounds):
            send.send_nowait(MESSAGE)
            assert receive.receive_nowait() is MESSAGE


async def _awaited(_: Any, rounds: int) -> None:
    send, receive = open_mailbox[bytes](1)
    with send, receive:
        for _ in range(rounds):
            await send.send(MESSAGE)
            await receive.receive()


async def _ping_pong(_: Any, rounds: int) -> None:
    to, at = open_mailbox[bytes](1)
    back, here = open_mailbox[bytes](1)

    async def pong() -> None:
        with at, back:
            async for message in at:
                await back.send(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pong)
        with to, here:
            for _ in range(rounds):
                await to.send(MESSAGE)
                await here.receive()


async def _command(scheduler: Any, rounds: int) -> None:
    async def echo(message: bytes) -> bytes:
        return message

    async with open_port(scheduler, "echo", echo) as port:
        for _ in range(rounds):
            await port.call(MESSAGE)


async def _synchronisation(rounds: int) -> Sample:
    lock = trio.Lock()
    async with open_scheduler():
        with Stopwatch() as watch:
            for _ in range(rounds):
                await lock.acquire()
                lock.release()
    return watch.sample(rounds)


async def _memory(rounds: int) -> Sample:
    """Create and drop message objects, which stand for the blocks of a memory pool."""
    send, receive = open_mailbox[bytes](128)
    with send, receive, Stopwatch() as watch:
        for _ in range(rounds // 128):
            for _ in range(128):
                send.send_nowait(bytes(128))
            for _ in range(128):
                receive.receive_nowait()
    return watch.sample(rounds // 128 * 128)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """The eight tests, some in the variants that a kernel with commands has."""
    few, many = size.of(20, 1000, 3000), size.of(256, 5000, 15_000)
    asynchronous: dict[str, tuple[Any, ...]] = {
        "2 cooperative": (partial(_cooperative, contexts=5), few),
        "2 cooperative, one context": (partial(_cooperative, contexts=1), few),
        "2 cooperative, plain trio": (_cooperative_trio, few),
        "3 preemptive": (_preemptive, few),
        "4 interrupt": (partial(_interrupt, preempts=False), few),
        "5 interrupt, preemption": (partial(_interrupt, preempts=True), few),
        "6 message, no wait": (_message, _no_wait, many),
        "6 message, awaited": (_message, _awaited, many),
        "6 message, ping-pong": (_message, _ping_pong, few),
        "6 message, command": (_message, _command, few),
        "7 synchronisation": (_synchronisation, many),
        "8 memory": (_memory, many),
    }
    found: dict[str, Callable[[], Sample]] = {"1 basic": partial(_basic, size.of(2, 200, 600))}
    return found | {name: partial(trio.run, *how) for name, how in asynchronous.items()}


BENCHMARK = Benchmark(
    name="thread_metric",
    summary="the eight tests of Thread-Metric; one basic operation is 1024 sums",
    unit="iteration",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["thread_metric", *sys.argv[1:]]))
