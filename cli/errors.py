"""The one exception of the command line. Pure."""


class CliError(Exception):
    """Something that the user can mend: its text goes to stderr, one line a fault, and the exit code is `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
