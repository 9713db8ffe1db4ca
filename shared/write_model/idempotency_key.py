"""What a command with an Idempotency-Key came to, written in its own transaction: there if and only if it was done."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from shared.write_model.base import METADATA, NOW

IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    # Who asked: the name of the token; empty where there are none.
    Column("principal", Text, primary_key=True),
    # Method and path as the route declares it: `POST /items`.
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("aggregate_type", Text, nullable=False),
    Column("aggregate_id", BigInteger, nullable=False),
    Column("aggregate_version", Integer, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
    CheckConstraint("key ~ '^[!-~]{1,255}$'", name="idempotency_key_is_visible_ascii"),
    CheckConstraint("length(request_hash) = 32", name="idempotency_key_request_hash_is_sha256"),
    Index(None, "created_at"),
)
