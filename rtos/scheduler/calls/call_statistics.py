"""Statistics of one kind of call: service times, response times, and an estimate for the next call.

Must not import: ports, workers, Trio.
"""

from __future__ import annotations

from typing import Final

from rtos.scheduler.policy.histogram import Histogram

_STALE: Final = 16
"""Calls in a row that an estimate may refuse before it is lowered."""


class CallStatistics:
    """Name and durations of all calls of one kind, for example of one command.

    Attributes:
      name: used in errors, the trace and reports.
      missed: calls that were not answered by their deadline.
      estimate: expected service time of the next call in seconds, 0.0 while unknown:
        a moving average that gives the latest call a weight of 1/8.
    """

    __slots__ = ("_direct", "_refused", "_response", "_service", "estimate", "missed", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = 0
        self.estimate = 0.0
        self._service = Histogram()
        self._response = Histogram()
        # Calls on the direct path: response and service time are the same.
        self._direct = Histogram()
        # Calls in a row that were not started because of the estimate.
        self._refused = 0

    @property
    def service(self) -> Histogram:
        """Service times, from dispatch to reply, in nanoseconds; a snapshot."""
        return self._service.merged(self._direct)

    @property
    def response(self) -> Histogram:
        """Response times, from sending to reply, in nanoseconds; a snapshot."""
        return self._response.merged(self._direct)

    def learn(self, service: float) -> None:
        """Record one service time, in seconds."""
        self._expect(service)
        self._service.record(int(service * 1e9))

    def learn_direct(self, service: float) -> None:
        """Record one service time, in seconds, that is the response time too."""
        self._expect(service)
        self._direct.record(int(service * 1e9))

    def learn_response(self, response: float) -> None:
        """Record one response time, in seconds."""
        self._response.record(int(response * 1e9))

    def learn_more_than(self, service: float) -> None:
        """Record that a call was cancelled after ``service`` seconds of service."""
        self.estimate = max(self.estimate, service)
        self._refused = 0

    def doubt(self) -> None:
        """Note that a call was not started because of the estimate.

        After 16 such calls in a row each further one lowers the estimate by 1/16. Under
        overload a few calls are refused between any two that are served, and the estimate
        is right. It can be stale only while no call is served at all.
        """
        self._refused += 1
        if self._refused > _STALE:
            self.estimate *= 15 / 16

    def _expect(self, service: float) -> None:
        known = self.estimate
        self.estimate = known + (service - known) / 8 if known else service
        self._refused = 0
