"""The trace: what the loop did recently.

``raw``: the tuples that the kernel writes. ``ring``: the ring buffer that holds them.
``reading``: makes records of raw records. ``records``: the record classes that readers see.
``cpu_sampler``: samples of sleep, CPU time and garbage collections.
"""
