"""Model weights on disk: fetched, converted once, found by name, and tiny random ones for tests."""
