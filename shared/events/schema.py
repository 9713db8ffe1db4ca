"""The payload of an event type at its present schema version, and how older ones are brought to it.

A payload outlives the code that wrote it: in the outbox while a deploy goes on, as a dead letter until somebody acts,
as the result of an Idempotency-Key for a day. So a change of its shape raises `schema_version` and adds an upcaster.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import get_type_hints

VERSION: Final = "schema_version"

# Takes a payload of one version, as JSON holds it, and returns that of the next. Pure. `schema_version` is set for it.
Upcaster = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class UnreadablePayloadError(ValueError):
    """The JSON is no payload of this event type; the text says why."""


class PayloadSchema:
    """How a payload is read. `payload` is a TypedDict of the present version; `upcasters`, by the version they take."""

    def __init__(self, payload: type, upcasters: Mapping[int, Upcaster] = MappingProxyType({})) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(payload)
        self._upcasters = upcasters
        (self.version,) = get_args(get_type_hints(payload)[VERSION])
        if sorted(upcasters) != list(range(self.version - len(upcasters), self.version)):
            raise ValueError(f"{payload.__name__}: upcasters lead from one version to the next, up to {self.version}")

    def read(self, text: bytes | str) -> Any:
        """Return the payload in `text`, decoded, checked, and of the present version. Raises UnreadablePayloadError."""
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            older = self._of_older(text)
            if older is None:
                raise UnreadablePayloadError(_describe(error)) from error
        try:
            return self._adapter.validate_json(to_json(older))
        except ValidationError as error:
            raise UnreadablePayloadError(_describe(error)) from error

    def _of_older(self, text: bytes | str) -> dict[str, Any] | None:
        """Return the payload of an older version at the present one; None when it is not of an older one."""
        try:
            value: Any = from_json(text)
        except ValueError:
            return None
        payload: dict[str, Any] = value if isinstance(value, dict) else {}
        version = payload.get(VERSION)
        if type(version) is not int or version == self.version:
            return None
        if version > self.version:
            raise UnreadablePayloadError(
                f"schema version {version} is newer than {self.version}, the newest one known here: "
                "deploy the version that knows it"
            )
        for older in range(version, self.version):
            if older not in self._upcasters:
                raise UnreadablePayloadError(f"schema version {older} is not read any more")
            try:
                payload = {**self._upcasters[older](payload), VERSION: older + 1}
            except Exception as error:
                # Whatever is missing in it, only this message fails.
                raise UnreadablePayloadError(
                    f"not of schema version {older}, as it says: {type(error).__name__}: {error}"
                ) from error
        return payload


def _describe(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
