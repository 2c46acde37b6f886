"""HTTP headers that the mesh itself sets or reads, lower case. Pure."""

from typing import Final

ERROR: Final = "x-tulle-error"
"""Response header on every answer that the sidecar itself made: one reason word (docs/errors.md)."""

CONTROLLER_REVISION: Final = "x-tulle-revision"
"""Response header of discovery streams: the controller's version, for logs."""
