"""Benchmarks: every figure beside its comparator, in one run. See docs/performance.md."""
