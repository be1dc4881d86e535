"""The simulated backend: an exact event loop, compiled."""
