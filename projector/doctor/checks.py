"""The checks, in the order in which they are made: first what the others need."""

from typing import Final

from projector.doctor import (
    migrations,
    mongo,
    postgres,
    read_models,
    relaying,
    sessions,
    surroundings,
)
from projector.doctor.finding import Check

POSTGRES: Final = "PostgreSQL"
MONGO: Final = "MongoDB"
MIGRATIONS: Final = "migrations"

TABLES: Final = (POSTGRES, MIGRATIONS)

CHECKS: Final = (
    Check(POSTGRES, postgres.reach),
    Check(MONGO, mongo.reach),
    Check("standby", postgres.take_writes, (POSTGRES,)),
    Check(MIGRATIONS, migrations.be_at_head, (POSTGRES,)),
    Check("rights in PostgreSQL", postgres.grant_rights, (POSTGRES,)),
    Check("rights in MongoDB", mongo.grant_rights, (MONGO,)),
    Check("MongoDB's members", mongo.be_whole, (MONGO,)),
    Check("installation", read_models.be_ours, (*TABLES, MONGO)),
    Check("projectors", relaying.be_at_work, TABLES),
    Check("lag", relaying.keep_up, TABLES),
    Check("batches", relaying.take_no_longer_than_usual, TABLES),
    Check("dead letters", relaying.have_no_dead_letters, TABLES),
    Check("validators", read_models.take_what_we_write, (*TABLES, MONGO)),
    Check("replays", read_models.finish_replays, TABLES),
    Check("what replays leave", read_models.leave_no_shadows, (*TABLES, MONGO)),
    Check("drift", read_models.agree_with_the_rows, TABLES),
    Check("transactions", sessions.leave_no_transaction_open, (POSTGRES,)),
    Check("locks", sessions.wait_for_no_lock, (POSTGRES,)),
    Check("sessions of other roles", sessions.hide_nothing, (POSTGRES,)),
    Check("replication slots", sessions.keep_no_idle_slots, (POSTGRES,)),
    Check("connections", postgres.have_connections_left, (POSTGRES,)),
    Check("notifications", surroundings.receive_notifications, (POSTGRES,)),
    Check("clocks", surroundings.agree_on_the_time, (POSTGRES, MONGO)),
    Check("disk of PostgreSQL", surroundings.have_disk_left_for_postgres, (POSTGRES,)),
    Check("disk of MongoDB", surroundings.have_disk_left_for_mongo, (MONGO,)),
)
