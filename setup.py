"""Packaging lives in setup.cfg; release builds compile the hot modules of the proxy (docs/performance.md)."""

from setuptools import setup

setup()
