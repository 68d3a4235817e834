"""Periodic jobs on an absolute grid of release times.

``periodic``: the loop over releases. ``release_times``: the grid and its overrun policies (pure).
"""
