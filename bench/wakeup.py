"""How long an urgent task waits for its turn, beside tasks that are always busy.

Fifty, or a thousand, background tasks burn steps of 200 µs each. Every few
milliseconds somebody sends to an urgent task; what counts is the time from the
sending to its running. Plain Trio and Trio under the scheduler take turns within
one run, so that what the machine does to the one it does to the other.

    python -m bench.wakeup            the table
    python -m bench.wakeup --check    and fail if a ratio is not met
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from contextlib import nullcontext
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

import trio

from rtos.scheduler import open_scheduler

if TYPE_CHECKING:
    from rtos.scheduler import Scheduler

STEP_NS = 200_000
MEDIAN_AT_MOST = 1 / 100
P99_AT_MOST = 1 / 60
GROWTH_AT_MOST = 2.0
"""Of the median, from 50 busy tasks to 1000: noise, and nothing that follows the number."""


async def _busy(stop: list[bool]) -> None:
    while not stop:
        until = perf_counter_ns() + STEP_NS
        while perf_counter_ns() < until:
            pass
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _urgent(receive: trio.MemoryReceiveChannel[int], waits: list[int]) -> None:
    async for sent in receive:
        waits.append(perf_counter_ns() - sent)  # noqa: PERF401 - each is timed when it comes


async def measure(scheduler: Scheduler | None, *, busy: int, samples: int) -> list[int]:
    """Waits of the urgent task, in nanoseconds; with plain Trio if there is no scheduler."""
    waits: list[int] = []
    stop: list[bool] = []
    send, receive = trio.open_memory_channel[int](samples)
    async with trio.open_nursery() as nursery:
        with scheduler.context("urgent", level=0) if scheduler else nullcontext():
            nursery.start_soon(_urgent, receive, waits)
        for _ in range(busy):
            nursery.start_soon(_busy, stop)
        with scheduler.context("clock", level=1) if scheduler else nullcontext():
            nursery.start_soon(_clock, send, samples, stop)
    return waits


async def _clock(send: trio.MemorySendChannel[int], samples: int, stop: list[bool]) -> None:
    async with send:
        for _ in range(samples):
            await trio.sleep(0.003)
            send.send_nowait(perf_counter_ns())
    stop.append(True)


async def _ordered(busy: int, samples: int) -> list[int]:
    async with open_scheduler() as scheduler:
        return await measure(scheduler, busy=busy, samples=samples)


async def _plain(busy: int, samples: int) -> list[int]:
    return await measure(None, busy=busy, samples=samples)


KINDS: Final = {
    "trio, 50": (_plain, 50, 30),
    "rtos, 50": (_ordered, 50, 100),
    "rtos, 1000": (_ordered, 1000, 100),
}


def run(rounds: int = 5) -> list[dict[str, list[int]]]:
    """The waits of each kind, round by round; within a round the kinds take turns."""
    return [{name: trio.run(*how) for name, how in KINDS.items()} for _ in range(rounds)]


def quantile(values: list[int], fraction: float) -> float:
    """A quantile in milliseconds."""
    return sorted(values)[min(int(len(values) * fraction), len(values) - 1)] / 1e6


def ratios(found: list[dict[str, list[int]]]) -> list[tuple[str, float, float]]:
    """What is held to a bound: the median over the rounds of the ratio within each."""

    def ratio(over: str, under: str, fraction: float) -> float:
        each = [quantile(one[over], fraction) / quantile(one[under], fraction) for one in found]
        return statistics.median(each)

    return [
        ("median against plain Trio's", ratio("rtos, 50", "trio, 50", 0.5), MEDIAN_AT_MOST),
        ("p99 against plain Trio's", ratio("rtos, 50", "trio, 50", 0.99), P99_AT_MOST),
        ("median of 1000 against 50", ratio("rtos, 1000", "rtos, 50", 0.5), GROWTH_AT_MOST),
    ]


def main() -> int:
    """Measure, show, and with ``--check`` hold the line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run()
    waits = {name: [wait for one in found for wait in one[name]] for name in KINDS}
    table = {name: (quantile(all_, 0.5), quantile(all_, 0.99)) for name, all_ in waits.items()}
    if arguments.json:
        print(json.dumps(table))
        return 0
    print(f"python {platform.python_version()}, trio {trio.__version__}, steps of {STEP_NS / 1e6} ms")
    for name, (median, p99) in table.items():
        print(f"{name:12} median {median:8.3f} ms   p99 {p99:8.3f} ms   of {len(waits[name])}")
    failed = False
    for name, value, bound in ratios(found):
        failed |= value > bound
        print(f"{name:28} {value:8.4f}   at most {bound:.4f}   {'met' if value <= bound else 'NOT MET'}")
    return int(arguments.check and failed)


if __name__ == "__main__":
    sys.exit(main())
