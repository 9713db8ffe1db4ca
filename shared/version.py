"""Which version of the service this is."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version that is installed here, or 0 when it runs from a source tree that is not."""
    try:
        return version("backend-kata")
    except PackageNotFoundError:
        return "0"
