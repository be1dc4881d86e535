"""What every codec shares: the contract, the packet around a payload, streams of packets, and finding a codec by its
name."""
