"""What a type checker has to know about ports. Checked by mypy; never imported."""

from typing import assert_type

from rtos.scheduler import CallStatistics, Port, Scheduler, SchedulingContext, open_port


async def half(number: int) -> float:
    return number / 2


async def handler_gives_the_types(scheduler: Scheduler) -> None:
    async with open_port(scheduler, "half", half) as port:
        assert_type(port, Port[int, float])
        assert_type(await port.call(3, deadline=1.0, statistics=CallStatistics("k")), float)
        await port.call("text")  # type: ignore[arg-type]  # this must be an error
        assert_type(port.statistics, CallStatistics)


async def parametrised(scheduler: Scheduler, context: SchedulingContext) -> None:
    port = Port[str, int](scheduler, "length")
    await port.serve(half, context=context)  # type: ignore[arg-type]  # this must be an error
    assert_type(await port.call("text"), int)
