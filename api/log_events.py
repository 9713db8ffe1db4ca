"""The names of the API's log lines. Everything else of a line is in fields; a name is never put together."""

from typing import Final

# The canonical line, one per request: method, route, status, seconds, request_id; trace_id when it is part of a trace;
# principal and token, the bearer's name and the first digits of the token's hash, where one is needed; for a write
# message_id, commit_seconds, wait_seconds and visibility.
REQUEST: Final = "request"
# A request met an error of ours; the traceback is in `exception`.
REQUEST_BROKE_OFF: Final = "request.broke_off"
# A request could not be answered because a server did not do its part: store, error.
STORE_AWAY: Final = "store.away"
# A connection beside the requests was lost and is opened again: connection, error.
CONNECTION_LOST: Final = "connection.lost"
