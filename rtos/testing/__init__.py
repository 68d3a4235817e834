"""Tools for tests of programs that use ``rtos``.

``virtual``: runs the scheduler in virtual time. ``store``: conformance checks for storage backends.
"""

from rtos.testing.virtual import TICK, Run, run_virtual, simulate, spend

__all__ = ["TICK", "Run", "run_virtual", "simulate", "spend"]
