"""The judge: pure functions over what clients were told and what both stores hold in the end."""

from tests.chaos.storm.judge_answers import answers, stale, went_back
from tests.chaos.storm.judge_stores import Stores, done_twice, drift, lost, miscounted, words
from tests.chaos.storm.told import Told
from tests.chaos.storm.wrong import Finding


def judge(told: Told, stores: Stores) -> list[Finding]:
    """Return everything that is wrong."""
    return [
        *lost(told, stores),
        *words(told, stores.write_model),
        *done_twice(told, stores.write_model),
        *miscounted(told, stores.write_model),
        *drift(stores),
        *stale(told),
        *went_back(told),
        *answers(told),
    ]
