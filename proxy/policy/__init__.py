"""Decisions: pure functions from values to values. Time and randomness are arguments. Pure."""
