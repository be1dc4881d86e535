"""The OpenAI-compatible HTTP front. ``app.build`` makes it from anything that is a ``contract.Engine``."""
