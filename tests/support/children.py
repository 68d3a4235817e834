"""Children that do as they are told, for tests of who starts and stops them."""

import trio

from rtos.scheduler import Backoff, ChildSpec

NO_WAIT = Backoff(first=0.0, cap=0.0)
BOOM = "boom"
END = "end"


class BoomError(Exception):
    """What a child fails with on order."""


class Children:
    """Children that do as they are told, and a trace of it."""

    def __init__(self):
        self.trace = []
        self.downs = []
        self.started = []
        self._running = set()
        self._starts = {}
        self._orders = {}
        self._asked = {}
        self._wakes = {}

    def spec(self, name, *, start=0.0, ending=0.0, obeys=True, bad_starts=(), raises_on_stop=None, **options):
        """A child that takes ``start`` and ``ending`` seconds for that; starts are counted from 1."""
        self._starts[name] = 0
        self._orders[name] = self._asked[name] = None

        async def run(ready):
            assert name not in self._running, "run twice at once"
            self._running.add(name)
            self._starts[name] += 1
            self._orders[name] = self._asked[name] = None
            self._wakes[name] = trio.Event()
            self.trace.append(f"start {name}")
            self.started.append((name, trio.current_time()))
            try:
                await trio.sleep(start)
                if self._starts[name] in bad_starts:
                    raise BoomError(f"{name} does not start")
                self.trace.append(f"ready {name}")
                ready()
                await self._wakes[name].wait()
                await self._obey(name, ending)
            except trio.Cancelled:
                self.trace.append(f"cancel {name}")
                if raises_on_stop is not None:
                    raise raises_on_stop from None
                raise
            finally:
                self._running.discard(name)

        def ask_to_stop():
            self.trace.append(f"stop {name}")
            if obeys:
                self._asked[name] = True
                self._wakes[name].set()

        options.setdefault("stop", ask_to_stop)
        return ChildSpec(
            name=name,
            run=run,
            on_down=lambda down: self.downs.append((down.daemon, down.reason)),
            **options,
        )

    async def _obey(self, name, ending):
        if not self._asked[name] and self._orders[name] == BOOM:
            self.trace.append(f"crash {name}")
            raise BoomError(name)
        await trio.sleep(ending if self._asked[name] else 0)
        self.trace.append(f"end {name}")

    def order(self, name, what):
        self._orders[name] = what
        self._wakes[name].set()

    async def __call__(self, name, what):
        """Give an order, and wait a moment."""
        self.order(name, what)
        await trio.sleep(0.001)

    def take(self):
        trace, self.trace = self.trace, []
        return trace

    @property
    def running(self):
        return sorted(self._running)
