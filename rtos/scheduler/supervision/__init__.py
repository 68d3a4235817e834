"""Supervision as in OTP: children are started, watched, restarted and stopped.

``supervisor``: opens a supervisor and carries out what the life cycle decides, on Trio.
``lifecycle``: decides who is started, stopped, restarted or parked, and when (pure).
``run_state``: the states of a child and the transitions between them (pure).
``restart_policy``: restart types, strategies, restart intensity and backoff (pure).
``child``: the specification of a child, its crash reports, and its state for operators.
``operator``: the queue of operators' orders: park and unpark.
``task_group``: many tasks that are cancelled in slices, so that other tasks run in between.
"""
