"""The command line: boots a system, and runs the commands of a running one.

``main`` is the entry point; ``exit_codes`` are what it returns.
"""
