"""``harness accuracy``: what a KV codec costs in answers, on real questions, question by question."""
