"""The real engine: workers, paged KV cache, KV transfer, HTTP front."""
