"""The nouns: immutable, validated at birth, in SI units with the unit in the name."""
