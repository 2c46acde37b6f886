"""What Tulle's programs agree on, and nothing else: names, ports, wire types. Pure; imports nothing of ours."""

VERSION = "0.1.0"
"""Version of all of Tulle: programs, images, chart (a test compares it with setup.cfg)."""
