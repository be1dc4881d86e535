"""ThunderServe: planning and serving LLMs with split phases on mixed cloud GPUs (MLSys 2025, arXiv 2502.09334)."""

__version__ = "0.1.0"
