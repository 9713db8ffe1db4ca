"""Whole instances: `kata up` with its own data, API and projectors as processes."""

from collections.abc import Iterator

import pytest

from devstack.instance import Instance


@pytest.fixture(scope="module")
def kata() -> Iterator[Instance]:
    """An instance with two projectors, shared by the tests of a module, which leave it in order."""
    with Instance(projectors=2) as instance:
        yield instance
