"""Why something was late.

``attribution``: splits the time of a missed call by cause. ``miss_log``: keeps and tells the reports.
``perfetto``: exports the trace. ``watchdog``: reports long steps while they run.
``busy_poll``: detects busy polling.
"""
