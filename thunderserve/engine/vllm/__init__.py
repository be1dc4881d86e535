"""ThunderServe on vLLM: a KV connector that unmodified vLLM loads, and what starts and routes its instances (``docs/vllm.md``).

Only ``connector.py`` and ``probe.py`` import vLLM, and only vLLM's own processes import them. Everything else here runs, and is
tested, without it.
"""
