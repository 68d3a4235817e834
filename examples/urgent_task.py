"""How long an urgent task waits beside fifty busy ones, in plain Trio and with a scheduler."""

from __future__ import annotations

from statistics import median

import attrs
import trio

from rtos.scheduler import Scheduler, open_scheduler

BUSY = 50
REQUESTS = 20


@attrs.define
class Waits:
    """How long each request waited: steps of busy tasks, and seconds."""

    steps: list[int] = attrs.Factory(list)
    seconds: list[float] = attrs.Factory(list)

    def row(self, title: str) -> str:
        """One line of the table."""
        steps = f"{median(self.steps):.0f}, at most {max(self.steps)}"
        times = f"{1000 * median(self.seconds):.2f} ms, at most {1000 * max(self.seconds):.2f} ms"
        return f"{title:22} {steps:20} {times}"


async def measure(scheduler: Scheduler | None) -> Waits:
    """Send requests to an urgent task beside busy ones; without a scheduler in Trio's own order."""
    waits, steps = Waits(), 0
    send, receive = trio.open_memory_channel[tuple[int, float]](0)

    async def busy() -> None:
        nonlocal steps
        while True:
            sum(range(10_000))  # a step of about 0.1 ms
            steps += 1
            await trio.lowlevel.checkpoint()

    async def urgent() -> None:
        async for steps_before, sent_at in receive:
            waits.steps.append(steps - steps_before)
            waits.seconds.append(trio.current_time() - sent_at)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery, send:
        if scheduler is None:
            nursery.start_soon(urgent)
        else:
            scheduler.start_soon(nursery, urgent, level=0)
        for _ in range(BUSY):
            nursery.start_soon(busy)
        for _ in range(REQUESTS):
            await send.send((steps, trio.current_time()))
    return waits


async def measure_with_scheduler() -> Waits:
    """The same with a scheduler."""
    async with open_scheduler() as scheduler:
        return await measure(scheduler)


def main() -> None:
    """Print the table."""
    print(f"{'':22} {'busy steps before it':20} waiting time (median)")
    print(trio.run(measure, None).row("plain Trio"))
    print(trio.run(measure_with_scheduler).row("urgent task, level 0"))


if __name__ == "__main__":
    main()
