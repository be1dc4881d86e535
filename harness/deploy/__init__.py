"""A plan written out for machines of one's own."""
