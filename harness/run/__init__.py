"""From cells to results: schedule, plan, serve, judge, store."""
