"""The command ``harness``. Nothing heavy is imported before it is used."""
