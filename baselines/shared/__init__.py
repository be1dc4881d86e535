"""What several systems share: instances of one GPU type, and their goodput in simulation."""
