"""Diagnosis: reports on missed deadlines, long steps and busy polling.

``attribution``: splits the time of a missed call by cause. ``miss_log``: keeps the reports on misses.
``perfetto``: exports the trace. ``watchdog``: reports long steps while they run.
``busy_poll``: detects busy polling.
"""
