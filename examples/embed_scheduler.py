"""A Trio program of its own that adds priorities: the lines marked ``+`` are all there is to change."""

import time

import trio

from rtos.scheduler import open_scheduler  # +


async def crunch() -> None:
    """Background work, in steps of about a millisecond."""
    while True:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        await trio.lowlevel.checkpoint()


async def control(requests: trio.MemoryReceiveChannel[float]) -> None:
    """Urgent work: says how long it had to wait for its turn."""
    async for sent in requests:
        print(f"answered after {(trio.current_time() - sent) * 1000:.1f} ms")


async def main() -> None:
    """Fifty busy tasks, and one that must not wait for them."""
    send, receive = trio.open_memory_channel[float](1)
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:  # + scheduler
        with scheduler.context("control", level=0):  # +
            nursery.start_soon(control, receive)
        for _ in range(50):
            nursery.start_soon(crunch)
        with scheduler.context("clock", level=1):  # +
            nursery.start_soon(ask, send, nursery.cancel_scope)


async def ask(send: trio.MemorySendChannel[float], scope: trio.CancelScope) -> None:
    """Three questions, then the end."""
    for _ in range(3):
        await trio.sleep(0.05)
        await send.send(trio.current_time())
    await trio.sleep(0.05)
    scope.cancel()


if __name__ == "__main__":
    trio.run(main)
