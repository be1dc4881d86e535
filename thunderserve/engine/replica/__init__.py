"""One replica of a model: a paged KV cache, the batcher that the simulator runs too, and a forward pass of what it chose.

A step is *schedule, execute, complete*: ``core.Replica.schedule`` asks the batcher and gives blocks, ``model.Model.execute``
computes, ``core.Replica.complete`` takes the tokens in. The first and the last know neither torch nor a clock.
"""
