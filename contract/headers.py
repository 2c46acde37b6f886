"""HTTP headers that the mesh itself sets or reads, lower case. Pure."""

from typing import Final

ERROR: Final = "x-tulle-error"
"""Response header on every answer that the sidecar itself made: one reason word (docs/errors.md)."""

CONTROLLER_REVISION: Final = "x-tulle-revision"
"""Response header of discovery streams: the controller's version, for logs."""

TIMEOUT: Final = "x-tulle-timeout-ms"
"""Request header from a sidecar: milliseconds for which the client will wait for the response's end, from now."""

DEADLINE: Final = "x-tulle-deadline"
"""Request header between a sidecar and its own application: the Unix time in milliseconds at which nobody waits for
the response any more. An application that passes it on has its own calls cut off then."""

ATTEMPT: Final = "x-tulle-attempt"
"""Request header on every try after the first: its number (2 for the first retry or hedge)."""

MIRROR: Final = "x-tulle-mirror"
"""Request header on a copy whose answer nobody waits for: `1`. Who has it is not copied again."""
