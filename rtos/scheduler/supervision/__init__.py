"""Supervision as in OTP: children are started, watched, restarted and stopped.

``supervisor``: the supervisor. ``child``: the specification and the present run of a child.
``restart_policy``: restart types, strategies, intensity and backoff (pure).
``operator``: park, unpark and restart by hand.
``task_group``: tasks that are started and stopped together.
"""
