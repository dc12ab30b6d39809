"""Worlds built from entities: known users to learn and to judge in. Each module says what its world is for."""
