"""A replica on several devices: one process each, pipeline stages of consecutive layers, tensor parallelism within a stage.

Rank 0 is the worker. It tells the others over pipes what to compute, write and read (``orders``), which needs no turn of
everybody; activations go over torch.distributed (``wires``). ``load`` reads each rank's own share of a checkpoint alone.
"""
