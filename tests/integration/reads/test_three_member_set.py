"""The replica set of three that tests of reads use."""

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.errors import ServerSelectionTimeoutError

from shared.mongo import Document
from tests.fixtures.replica_sets import Member, ThreeMemberSet
from tests.fixtures.waiting import wait_until

MAJORITY = WriteConcern(w="majority", j=True, wtimeout=30_000)


def insert(replica_set: ThreeMemberSet, name: str, number: int) -> None:
    with MongoClient[Document](replica_set.uri) as client:
        client.get_database(name, write_concern=MAJORITY).kept.insert_one({"_id": number})


def kept(database: Database[Document]) -> list[int]:
    return [document["_id"] for document in database.kept.find().sort("_id", 1)]


def seen(member: Member, name: str) -> list[int]:
    return kept(member.client[name])


def test_a_held_secondary_is_stale_while_the_majority_goes_on(
    three_member_set: ThreeMemberSet, mongo_database: str
) -> None:
    held, other = three_member_set.secondaries
    insert(three_member_set, mongo_database, 1)
    wait_until(lambda: seen(held, mongo_database) == [1], "the secondary has it")
    with three_member_set.hold_replication(held):
        insert(three_member_set, mongo_database, 2)
        assert seen(held, mongo_database) == [1]
        assert seen(other, mongo_database) == [1, 2]
        with MongoClient[Document](three_member_set.uri_reading_from(held)) as client:
            assert kept(client[mongo_database]) == [1]
    wait_until(lambda: seen(held, mongo_database) == [1, 2], "the secondary has caught up")


def test_another_member_takes_over_from_a_killed_primary(three_member_set: ThreeMemberSet, mongo_database: str) -> None:
    insert(three_member_set, mongo_database, 1)
    killed = three_member_set.primary
    killed.kill()
    assert three_member_set.primary is not killed
    insert(three_member_set, mongo_database, 2)
    three_member_set.make_whole()
    assert seen(killed, mongo_database) == [1, 2]


def test_a_paused_secondary_does_not_answer_and_goes_on_afterwards(
    three_member_set: ThreeMemberSet, mongo_database: str
) -> None:
    paused = three_member_set.secondaries[0]
    with (
        paused.paused(),
        MongoClient[Document](paused.uri, serverSelectionTimeoutMS=200) as client,
        pytest.raises(ServerSelectionTimeoutError),
    ):
        client.admin.command("ping")
    insert(three_member_set, mongo_database, 1)
    wait_until(lambda: seen(paused, mongo_database) == [1], "it follows again")
