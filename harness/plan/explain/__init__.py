"""A search, told by its own numbers: one part of the algorithm a module, put together by ``story.tell``."""
