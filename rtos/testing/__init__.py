"""Shipped for tests of programs that use ``rtos``: virtual time, and laws that a backend must keep."""
