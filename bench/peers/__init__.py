"""Other systems that do the same work, each measured as a program of its own in the same run as ours."""
