"""A voting application that knows nothing of the mesh."""
