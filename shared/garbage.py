"""Python's collector of garbage, for a process with much to do: it looks at what was made lately, and seldom.

By itself it looks through everything that the imports have left, code and schemas that stay, again and again, and after
every 700 new objects at the young ones: a batch or a page makes thousands, and nearly none of them in circles.
"""

import gc
from typing import Final

# A look at the young objects costs by their number; so many are a few megabytes.
YOUNG_OBJECTS: Final = 20_000


def collect_seldom() -> None:
    """To be called when a process is ready to begin: what is there now is not looked at any more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
