"""The systems to compare with: one module a system, each with one frozen dataclass ``System``."""
