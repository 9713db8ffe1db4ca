"""MongoDB's logical time, in the form in which PostgreSQL keeps it.

A read in a causally consistent session that was advanced to such a time sees every write acknowledged before it, on
whichever member it runs. See "Causal Consistency" in MongoDB's manual and the driver specification of that name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bson import Timestamp, decode, encode
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.client_session import ClientSession


@dataclass(frozen=True, slots=True)
class MongoTime:
    """A moment: the operation time as one ordered number, and the signed $clusterTime document as BSON."""

    operation_time: int
    cluster_time: bytes

    @classmethod
    def of_session(cls, session: ClientSession) -> Self | None:
        """Return the time after the session's last operation, None when it had none."""
        operation_time, cluster_time = session.operation_time, session.cluster_time
        if operation_time is None or cluster_time is None:
            return None
        return cls(operation_time.time << 32 | operation_time.inc, encode(cluster_time))

    def advance(self, session: ClientSession | AsyncClientSession) -> None:
        """Let every read of `session` be at this moment or after it."""
        cluster_time: Mapping[str, Any] = decode(self.cluster_time)
        session.advance_cluster_time(cluster_time)
        session.advance_operation_time(Timestamp(self.operation_time >> 32, self.operation_time & 0xFFFFFFFF))
