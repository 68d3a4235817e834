"""Dispatch: which task of a Trio loop runs next, and which context is billed for it.

``ready_queue``: released tasks by level, deadline and arrival (pure).
``run_queue``: replaces Trio's ready queue, and runs the steps of a pass.
``donation``: runs a step of a parked task inside the step of its caller.
``trio_compat``: the only module that imports Trio's internals, and checks them.
``trio_versions``: the tested releases of Trio, and the error for others.
``trio_order``: the interface of ``run_queue`` on Trio's own order and public API.
``accounting``: CPU time, steps and trace records by context.
``current``: the scheduling context, level and deadline of the running task.
``wakeup``: wakes the sleeping loop for the next timer.
``timerfd``: a Linux timer descriptor, for Python before 3.13.
"""
