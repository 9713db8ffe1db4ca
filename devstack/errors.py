"""What can go wrong, as one sentence with its remedy and the exit code that `kata` answers."""


class DevstackError(Exception):
    """Its text is shown to the user as it is, so it is always a complete sentence."""

    exit_code: int = 1


class ConfigurationError(DevstackError):
    """The user can mend it before the next start: a taken port, a missing library, a second instance."""

    exit_code: int = 2


class ServerError(DevstackError):
    """A server did not start, did not answer, or died."""

    exit_code: int = 3


class InterruptedStartError(DevstackError):
    """Ctrl-C or a signal came before everything was ready."""

    exit_code: int = 130
