"""Benchmarks that a user can rerun; none of them is a test."""
