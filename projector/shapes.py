"""Who may write documents? Shapes decide, when projectors of two versions work beside each other.

Documents of a read model are made in the shape of its newest replay that is done or at work, or in a newer one: a
version with a new field relays beside the old one until `projector replay` brings every document into its shape. From
the moment that replay is registered the old version must not write any more, for what it wrote would lack the field. It
waits. Should the replay fail or be cancelled, it goes on.

A replay may also take documents back to an older shape, when a deploy is undone. Then it is the newer version that
waits, until it replays again.
"""

from collections.abc import Mapping
from typing import Final, Self

from projector.projections.registry import PROJECTIONS
from shared.postgres import plain_array
from shared.read_models import ReadModel

# A read model for whose documents this code is too old, or too new. To be joined LATERAL; at most one row.
REFUSED: Final = """
    SELECT known.type AS refused_type, made.shape AS refused_shape
    FROM unnest(%(types)s::text[], %(shapes)s::int[]) AS known (type, shape)
    CROSS JOIN LATERAL (
        SELECT shape, takes_back FROM replays
        WHERE aggregate_type = known.type AND state IN ('copying', 'verifying', 'swapping', 'done')
        ORDER BY id DESC LIMIT 1
    ) AS made
    WHERE made.shape > known.shape OR (made.takes_back AND made.shape < known.shape)
    LIMIT 1
"""


class ShapeError(RuntimeError):
    """The documents that this code makes are not wanted. The message says why, and what to do."""


class ShapeTooOldError(ShapeError):
    """Documents are made in a shape that this code does not know yet."""

    @classmethod
    def of(cls, read_model: ReadModel, shape: int) -> Self:
        """Return the error for a read model whose documents are made in `shape`."""
        return cls(
            f"{read_model.name} is made in shape {shape} by a newer version, this one makes shape {read_model.shape}: "
            f"deploy the newer version here, too, or go back to this one with `projector replay {read_model.table} "
            "--take-back`"
        )


class ShapeTooNewError(ShapeError):
    """Documents were taken back to an older shape than this code makes."""

    @classmethod
    def of(cls, read_model: ReadModel, shape: int) -> Self:
        """Return the error for a read model that was taken back to `shape`."""
        return cls(
            f"{read_model.name} was taken back to shape {shape} by an older version, this one makes shape "
            f"{read_model.shape}: stop this projector, or go on to its shape with `projector replay {read_model.table}`"
        )


def known_shapes() -> Mapping[str, str]:
    """Return the parameters of REFUSED: what this code makes of each aggregate type."""
    read_models = [projection.read_model for projection in PROJECTIONS.values()]
    return {
        "types": plain_array(read_model.aggregate_type for read_model in read_models),
        "shapes": plain_array(read_model.shape for read_model in read_models),
    }


def shape_error(aggregate_type: str, shape: int) -> ShapeError:
    """Return why this code must not write documents of an aggregate type that are made in `shape`."""
    read_model = PROJECTIONS[aggregate_type].read_model
    if shape > read_model.shape:
        return ShapeTooOldError.of(read_model, shape)
    return ShapeTooNewError.of(read_model, shape)


def tolerated_by_replays(*, take_back: bool) -> tuple[type[ShapeError], ...]:
    """Return what keeps no replay from writing: it goes on to a newer shape, or back to an older one where asked to."""
    return (ShapeTooNewError, ShapeTooOldError) if take_back else (ShapeTooNewError,)
