"""The paper's contribution: which cards form a replica, what it serves, how it is parallelised, who sends to whom."""
