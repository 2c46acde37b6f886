"""What can go wrong when rules meet the kernel. Pure."""


class BackendError(Exception):
    """A backend could not do what was asked; the message is one line for the operator."""
