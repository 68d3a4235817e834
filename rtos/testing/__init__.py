"""Shipped for tests of programs that use ``rtos``: virtual time, and laws that a backend must keep."""

from rtos.testing.virtual import TICK, Run, run_virtual, simulate, spend

__all__ = ["TICK", "Run", "run_virtual", "simulate", "spend"]
