"""A replica on several devices: pipeline stages and tensor-parallel ranks, one process each, one step at a time."""
