"""Whatever commands came and however they were relayed: after a drain the read models equal the write model.

`make soak` does this for hours.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from tests.model.story import in_world, tell
from tests.model.world import World

STORIES: Final = 60
STEPS: Final = 50


@pytest.fixture
def world(settings: ProjectorSettings, api_settings: ApiSettings) -> Iterator[World]:
    """Two databases of this test's own, and everybody who works on them."""
    with World(settings, api_settings) as world:
        yield world


# A failure takes minutes to become short.
@pytest.mark.timeout(1200)
def test_read_models_equal_the_write_model_after_every_drain(world: World) -> None:
    tell(in_world(world), stories=STORIES, steps=STEPS)
