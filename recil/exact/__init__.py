"""Worlds small enough to solve."""
