"""The projection of user events to documents of `users_read`."""

from shared.events.event import Event
from shared.read_models import UserDocument


def user_document(event: Event) -> UserDocument:
    """Return the document of a created or updated user."""
    state = event.payload
    return UserDocument(
        _id=event.aggregate_id,
        name=state["name"],
        email=state["email"],
        version=event.aggregate_version,
        created_at=state["created_at"],
        updated_at=state["updated_at"],
    )
