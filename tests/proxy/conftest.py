"""Makes the house's helpers importable and its fixtures known."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from proxyhouse import controller, serve, start_sidecar
from reachhouse import through

__all__ = ["controller", "serve", "start_sidecar", "through"]
