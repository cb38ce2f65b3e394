"""Commands that are killed, interrupted, starved and run against each other.

`python -m benchmarks.breaking` prints what they survive; see `__main__`.
"""
