"""Guards of replay, of its swap, and of the purge of tombstones."""

from typing import Final

from tests.controls.control import Change, Control

REPLAY: Final = "projector/replay.py"
SWAP: Final = "projector/swap.py"
DELIVERY: Final = "projector/delivery.py"
TOMBSTONES: Final = "projector/tombstones.py"

LOSES_NOTHING: Final = "tests/integration/projector/test_invariant_11_replay_loses_nothing.py"
REPLAYED: Final = "tests/integration/projector/test_replay.py"
CRASHES: Final = "tests/integration/projector/test_replay_crashes.py"
PURGE: Final = "tests/integration/projector/test_tombstone_purge.py"

CONTROLS: Final = (
    Control(
        "tombstones of the shadow",
        serves="3: no resurrection",
        without="a rebuilt read model has no tombstones",
        changes=[
            Change(
                REPLAY,
                old="            self._copy_tombstones(replay)\n",
                new="",
            )
        ],
        noticed_by={
            REPLAYED: [
                "test_a_deleted_item_does_not_come_back",
                "test_what_has_messages_but_no_row_gets_a_tombstone",
            ]
        },
    ),
    Control(
        "tombstones of what has messages but no row",
        serves="3: no resurrection",
        without="of what was deleted only the tombstones that are there already are copied",
        changes=[
            Change(
                REPLAY,
                old="gone = list(departed(self._connection, self._projection.read_model))",
                new="gone = list[tuple[int, int]]()",
            )
        ],
        noticed_by={REPLAYED: ["test_what_has_messages_but_no_row_gets_a_tombstone"]},
    ),
)
