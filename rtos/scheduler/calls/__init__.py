"""Calls: request and reply between tasks, with one deadline and exactly one outcome.

``port``: ``open_port`` and ``Port``, the callers' side.
``call``: one call, its caller's outcome, deadline and cancellation.
``call_statistics``: durations of all calls of one kind.
``states``: the states of calls and workers, and the table of their transitions.
``core``: the state of a port, and every step that moves a call through it.
``direct``: the direct path, which serves a call within its caller's step.
``server``: the workers' side, the loop that runs handlers.
``worker``: one task that serves a port.
``inspect``: a snapshot of a port for an operator.
"""
