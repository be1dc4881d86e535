"""Benchmarks of the program itself: how true and how fast it is."""
