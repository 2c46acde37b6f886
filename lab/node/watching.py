"""Follow a kind in the registry for ever, however slow the reader is. Waits."""

from collections.abc import AsyncIterator

from lab.api.errors import ApiError
from lab.api.registry import Registry

from .endpoints import Object


async def follow(registry: Registry, resource: str) -> AsyncIterator[Object | None]:
    """Each object that is here, or changes, or went. None: a watch was begun anew, and deletions were missed."""
    while True:
        watch = registry.watch(resource)
        try:
            async for event in watch:
                yield event.object
            return
        except ApiError as error:
            if error.reason != "Expired":
                raise
        finally:
            watch.close()
        yield None
