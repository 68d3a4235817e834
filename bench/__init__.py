"""Benchmarks: one file each, ratios within one run."""
