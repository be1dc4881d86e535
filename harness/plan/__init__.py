"""One question to the planners and its answer: what to deploy, what to expect of it, and why."""
