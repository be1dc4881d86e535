"""What a replica does next, written once, free of clock, device and model."""
