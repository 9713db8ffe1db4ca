"""What a client gets about tags."""

from pydantic import BaseModel, ConfigDict


class TagOut(BaseModel):
    """A tag and how many items carry it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "cheese", "items": 42}]})

    name: str
    items: int
