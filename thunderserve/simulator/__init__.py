"""The simulated backend: an exact event loop, compiled.

The fast door, in arrays (microseconds a call besides the simulation itself; build the ``Fleet`` once, run many traces):

    from thunderserve.serving.pool import Limits
    from thunderserve.simulator.fleet import Fleet, ReplicaSetup, RouteSetup

    limits = Limits(chunked=True, stages=1, block_tokens=16, blocks=8000, watermark_blocks=0,
                    max_sequences=256, max_batched_tokens=2048)
    fleet = Fleet([ReplicaSetup(step_table, limits)], [RouteSetup(prefill=0, decode=0)])
    requests = fleet.run(arrival_s, prompt_tokens, output_tokens).requests
    ttft_s = requests["first_token_s"] - requests["arrival_s"]

``requests`` has a row a request in the order of the trace (fields of ``serving.pool.REQUEST``; times are NaN where nothing
happened, ``status`` is 0 for finished and 1 for rejected). A split system has one replica for each phase and routes between
them, with links: ``RouteSetup(0, 1, share=1.0, links=(0,), alpha_s=1e-3, s_per_token=...)`` and ``Fleet(..., links=1)``.
The door of the nouns is ``simulator.backend.Simulated``.
"""
