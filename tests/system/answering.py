"""A system that asks its persona question after question, until it is killed at a certain point.

python answering.py ROOT POINT: dies by SIGKILL at the POINT-th of what it passes: the begin and the end of
every command, and every statement of every database. With 0 it asks nothing and ends when all is answered.
Prints each question that was acknowledged.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import apsw  # noqa: TID251 - dies between two statements
import trio

from rtos import Configuration, Runtime, open_runtime
from rtos.bus.commands import Commands


class Points:
    """Counts what is passed, once it is armed, and dies at the last."""

    def __init__(self, last: int) -> None:
        self.left = last
        self.armed = False

    def passed(self, *_: Any) -> bool:
        if self.armed:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return True

    def watch(self) -> None:
        """From now on every command and every statement is a point."""
        send = Commands.send

        async def watched(commands: Commands, *arguments: Any, **named: Any) -> Any:
            self.passed()
            try:
                return await send(commands, *arguments, **named)
            finally:
                self.passed()

        Commands.send = watched  # type: ignore[method-assign]
        apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(self.passed))


async def ask_on(system: Runtime, points: Points) -> None:
    """Ask, wait for the answer, and ask again."""
    points.armed = True
    for number in count():
        with system.bus.events.subscribe("data:chat_messages:created") as events:
            text = f"what about question {number}?"
            sent = await system.commands.execute("chat/send", room="general", text=text)
            print(sent["id"], flush=True)  # noqa: T201 - it is what the test reads
            while (await events.receive()).payload["record"]["reply_to"] != sent["id"]:
                pass


async def is_done(system: Runtime) -> bool:
    """Whether every question has an answer, and the persona knows it."""
    asked: dict[str, str] = {}
    answered: set[str] = set()
    cursor = None
    while True:
        page = await system.commands.execute(
            "data/list", collection="chat_messages", limit=500, cursor=cursor
        )
        asked |= {record["id"]: record["created_at"] for record in page["items"] if not record["reply_to"]}
        answered |= {record["reply_to"] for record in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    state = await system.commands.execute("data/read", key="user_state", user_id="helper-ai")
    mark = state["value"]["room_read_state"]["general"]["last_read_message_timestamp"]
    return set(asked) <= answered and mark >= max(asked.values(), default="")


async def main(root: str, last: str) -> None:
    points = Points(int(last))
    points.watch()
    async with open_runtime(Configuration(root=Path(root), socket=False)) as system:
        if points.left:
            await ask_on(system, points)
        with system.bus.events.subscribe("data:chat_messages:*", "data:kv:*") as events, trio.fail_after(60):
            while not await is_done(system):
                await events.receive()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
