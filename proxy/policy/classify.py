"""Whether a response is a success. Pure."""


def response(status: int) -> bool:  # stop 9
    """Tell success (True) from failure: a server's fault (5xx) is a failure, a client's (4xx) is not."""
    return status < 500
