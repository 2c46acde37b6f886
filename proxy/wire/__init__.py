"""Bytes to meaning, sans I/O: no clock, no socket, no logging. Pure."""
