"""A procedural head with exact labels, and captures of it: the embedded default that needs no video."""
