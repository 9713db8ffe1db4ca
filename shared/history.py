"""Which line of commits this is: expressions of SQL, to stand beside `FROM installation`."""

from typing import Final

# The timeline is the one that is being written: that of the last checkpoint remains the old one for minutes after a
# promotion. A standby refuses to tell.
SYSTEM_IDENTIFIER: Final = "(SELECT system_identifier FROM pg_control_system())"
TIMELINE: Final = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"

# A dump that is restored makes the tables anew.
TABLE: Final = "installation.tableoid::bigint"

# How often hands were shaken, see shared/installation.py.
HANDSHAKE: Final = "(SELECT number FROM handshake)"

# One line of commits: a restored or promoted copy, and whatever was cleaned, begins another. Message ids mean
# something within one history only.
HISTORY: Final = f"md5(concat_ws('/', installation.id, {SYSTEM_IDENTIFIER}, {TIMELINE}, {TABLE}))::uuid"

# The same while neither a server's files nor this table can have been put back in time: the former needs a server that
# is down, the latter a file of another name.
INCARNATION: Final = (
    f"md5(concat_ws('/', {HISTORY}, extract(epoch FROM pg_postmaster_start_time()),"
    " pg_relation_filenode(installation.tableoid)))::uuid"
)
