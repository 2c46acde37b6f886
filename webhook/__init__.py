"""The admission webhook: from a pod to the patch that meshes it."""
