"""Offline and simulated evaluation, with intervals and verdicts."""
