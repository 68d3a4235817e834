"""Run a whole runtime inside the event loop of an asyncio program."""

import asyncio  # noqa: TID251 - this example embeds in asyncio
import tempfile
from pathlib import Path

from rtos import Configuration, open_runtime
from rtos.host.asyncio import open_in_asyncio


async def main() -> None:
    """Boot a runtime in a temporary folder and ask whether it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = Configuration(root=Path(folder), socket=False)
        async with open_in_asyncio(lambda: open_runtime(configuration)) as host:
            answer = await host.call(lambda: host.system.commands.execute("ping"), timeout=10)
            print("ready" if answer["ready"] else "not ready", "with", answer["daemons"], "daemons")


if __name__ == "__main__":
    asyncio.run(main())
