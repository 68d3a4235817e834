"""Calls: one request, one reply, one deadline, one outcome.

``call``: a call under way, and the statistics of its kind. ``port``: where calls arrive, wait and are served.
``worker``: a task that serves a port. ``inspect``: a port as an operator sees it.
"""
