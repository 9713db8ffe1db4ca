"""Importing a chunk of a catalogue: one transaction, and every row it adds has exactly one message.

What is already there is left as it is: a user with the same address, an item of the same owner with the same name.
So the same chunk again adds nothing. The caller keeps other imports out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

import psycopg

from api.catalogue import repository
from api.catalogue.entries import BadLine, ItemEntry, UserEntry
from api.catalogue.events import NewItem, item_created
from api.catalogue.repository import Cursor
from shared.events.user import user_event
from shared.outbox.append import copy_in
from shared.rows.item import ItemRow
from shared.rows.row import FIRST_VERSION
from shared.rows.user import UserRow

UNKNOWN_OWNER: Final = "owner_email: no user with this address"


@dataclass(frozen=True, slots=True)
class Imported:
    """What a chunk came to, once it is committed. `first_message` is the lowest id of its messages."""

    users: int
    items: int
    already_there: int
    refused: Sequence[BadLine]
    first_message: int | None


def import_chunk(
    connection: psycopg.Connection, user_entries: Sequence[UserEntry], item_entries: Sequence[ItemEntry]
) -> Imported:
    """Add what is not there yet and commit. `connection` is in autocommit mode: the transaction begins here."""
    with connection.transaction(), connection.cursor() as cursor:
        addresses = {entry.email for entry in user_entries} | {entry.owner_email for entry in item_entries}
        users = {user.email: user for user in repository.lock_users(cursor, addresses)}
        new_users = _first_of_each(user_entries, users)
        added = _add_users(cursor, new_users, users)
        wanted, refused = _with_owners(item_entries, users, new_users)
        for key in repository.known_items(cursor, wanted):
            wanted.pop(key, None)
        new_items = _add_items(cursor, wanted, users)
        first_message = _append(cursor, added, new_items)
    already_there = len(user_entries) + len(item_entries) - len(added) - len(new_items) - len(refused)
    return Imported(len(added), len(new_items), already_there, refused, first_message)


def _first_of_each(entries: Sequence[UserEntry], known: Collection[str]) -> dict[str, UserEntry]:
    first: dict[str, UserEntry] = {}
    for entry in entries:
        if entry.email not in known:
            first.setdefault(entry.email, entry)
    return first


def _add_users(cursor: Cursor, new: Mapping[str, UserEntry], users: dict[str, UserRow]) -> list[UserRow]:
    """Add the new users to the write model and to `users`; return those that this import added."""
    added = repository.add_users(cursor, [entry.name for entry in new.values()], list(new)) if new else []
    users.update((user.email, user) for user in added)
    if len(added) < len(new):  # a client was quicker
        users.update((user.email, user) for user in repository.lock_users(cursor, new.keys() - users.keys()))
    return added


def _with_owners(
    entries: Sequence[ItemEntry], users: Mapping[str, UserRow], new_users: Mapping[str, UserEntry]
) -> tuple[dict[tuple[int, str], ItemEntry], list[BadLine]]:
    """Return the items by what identifies them, and the lines whose owner is unknown or comes further down."""
    wanted: dict[tuple[int, str], ItemEntry] = {}
    refused = []
    for entry in entries:
        owner = users.get(entry.owner_email)
        introduced = new_users.get(entry.owner_email)
        # A user further down does not count, or it would depend on where the chunks end.
        if owner is None or (introduced is not None and introduced.line > entry.line):
            refused.append(BadLine(entry.line, UNKNOWN_OWNER))
        else:
            wanted.setdefault((owner.id, entry.name), entry)
    return wanted, refused


def _add_items(
    cursor: Cursor, wanted: Mapping[tuple[int, str], ItemEntry], users: Mapping[str, UserRow]
) -> list[NewItem]:
    """Add the items with their tags and return them."""
    if not wanted:
        return []
    time = repository.now(cursor)
    items = [
        _new_item(item_id, entry, users[entry.owner_email], time)
        for item_id, entry in zip(repository.next_ids(cursor, "items", len(wanted)), wanted.values(), strict=True)
    ]
    repository.add_items(cursor, (item.row for item in items))
    tags = repository.tag_ids(cursor, {tag for item in items for tag in item.tags})
    positions = ((item.row.id, position, tags[tag]) for item in items for position, tag in enumerate(item.tags, 1))
    repository.add_item_tags(cursor, positions)
    return items


def _new_item(item_id: int, entry: ItemEntry, owner: UserRow, time: datetime) -> NewItem:
    row = ItemRow(
        id=item_id,
        name=entry.name,
        description=entry.description,
        sell_in=entry.sell_in,
        quality=entry.quality,
        owner_id=owner.id,
        version=FIRST_VERSION,
        created_at=time,
        updated_at=time,
    )
    return NewItem(row, owner, entry.tags)


def _append(cursor: Cursor, users: Sequence[UserRow], items: Sequence[NewItem]) -> int | None:
    """Append the message of every row that was added; return the lowest id."""
    if not users and not items:
        return None
    ids = repository.next_ids(cursor, "outbox", len(users) + len(items))
    events = chain((user_event("created", user) for user in users), map(item_created, items))
    copy_in(cursor, events, ids)
    return ids[0]
