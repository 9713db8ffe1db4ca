"""How many examples each test tries, and how long that may take: FUZZ_EXAMPLES=20000 makes a long run of it."""

import os
from typing import Final

import pytest
from hypothesis import settings

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "100"))

# What is only computed is tried more often than what takes a server.
computed: Final = settings(max_examples=2 * EXAMPLES)
served: Final = settings(max_examples=EXAMPLES)
journaled: Final = settings(max_examples=max(EXAMPLES // 4, 1))
batched: Final = settings(max_examples=max(EXAMPLES // 10, 1))

patient: Final = pytest.mark.timeout(180 + EXAMPLES)
