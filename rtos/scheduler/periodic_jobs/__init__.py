"""Periodic jobs on an absolute time grid.

``periodic``: the loop over releases. ``release_times``: the grid and its overrun policies (pure).
"""
