"""The trace: what the loop did recently.

``records``: the record classes that readers see. ``ring``: the ring buffer that they are written to.
``cpu_sampler``: samples of sleep, CPU time and garbage collections.
"""
