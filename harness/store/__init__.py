"""Results on disk: they are the truth; progress, report and W&B only watch."""
