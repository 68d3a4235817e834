"""Which task runs next, and who pays for it.

``ready_queue``: released tasks by urgency (pure). ``run_queue``: Trio's ready queue, ordered.
``trio_order``: the same interface on Trio's own order. ``trio_versions``: the tested releases of Trio.
``accounting``: CPU time by context. ``wakeup``: wakes the loop for the next timer.
"""
