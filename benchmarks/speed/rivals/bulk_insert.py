"""A bulk import as the driver does it: `insert_many` of a thousand items after another, until the process is ended."""

from itertools import count
from typing import Final

from pymongo import MongoClient

from benchmarks.speed.servers import Document
from benchmarks.speed.work import BATCH
from shared.mongo import read_model_database
from shared.read_models import ITEMS_READ
from shared.settings import Settings

COLLECTION: Final = "items_bulk"


def main() -> None:
    """Insert the items that are there, again and again, under ids of their own."""
    settings = Settings.load()
    with MongoClient[Document](settings.mongo_url.get_secret_value(), tz_aware=True) as client:
        database = read_model_database(client, settings)
        found = list(database[ITEMS_READ.name].find(limit=BATCH))
        for first in count(1, BATCH):
            for number, document in enumerate(found, first):
                document["_id"] = number
            database[COLLECTION].insert_many(found, ordered=False)


if __name__ == "__main__":
    main()
