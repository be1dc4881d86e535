"""A worker that never gets as far as saying hello."""

import sys

print("loading weights")
print("the disk is on fire", file=sys.stderr)
sys.exit(3)
