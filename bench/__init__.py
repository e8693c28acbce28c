"""Benchmarks: `python -m bench`. Every figure in docs/performance.md comes from here, peers in the same run."""
