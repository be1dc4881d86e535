"""The process of one worker: ``python -m thunderserve.engine.worker '<WorkerOptions as JSON>'``."""
