"""Run a whole runtime in a thread beside a synchronous program."""

import tempfile
from pathlib import Path

from rtos import Configuration, open_runtime
from rtos.host.thread import open_thread


def main() -> None:
    """Boot a runtime in a temporary folder and ask whether it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = Configuration(root=Path(folder), socket=False)
        with open_thread(lambda: open_runtime(configuration)) as host:
            answer = host.call(lambda: host.system.commands.execute("ping"), timeout=10)
            print("ready" if answer["ready"] else "not ready", "with", answer["daemons"], "daemons")


if __name__ == "__main__":
    main()
