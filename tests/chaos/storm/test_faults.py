"""What is going to happen in a storm follows from its seed."""

from itertools import islice, pairwise

import pytest

from tests.chaos.storm.faults import KINDS, SQUALL, STORM, Weather, gusts


def test_a_seed_makes_the_same_storm_again_and_another_seed_another_one() -> None:
    assert list(islice(gusts(1, STORM), 20)) == list(islice(gusts(1, STORM), 20))
    assert list(islice(gusts(1, STORM), 20)) != list(islice(gusts(2, STORM), 20))


@pytest.mark.parametrize("weather", [SQUALL, STORM])
def test_every_kind_comes_before_any_comes_again(weather: Weather) -> None:
    kinds = [fault.kind for gust in islice(gusts(1, weather), 20) for fault in gust]
    counts = [kinds.count(kind) for kind in KINDS]
    assert max(counts) - min(counts) <= 1


def test_a_squall_of_four_gusts_has_every_kind() -> None:
    assert {fault.kind for gust in islice(gusts(1, SQUALL), 4) for fault in gust} == KINDS.keys()


@pytest.mark.parametrize("weather", [SQUALL, STORM])
def test_faults_overlap_and_each_of_them_ends(weather: Weather) -> None:
    faults = [fault for gust in islice(gusts(1, weather), 50) for fault in gust]
    longest = max(weather.seconds[1], weather.long_seconds[1])
    assert all(weather.seconds[0] <= fault.seconds <= longest for fault in faults)
    assert all(0 <= fault.after <= weather.spread_seconds for fault in faults)
    assert any(second.after < first.after + first.seconds for first, second in pairwise(faults))
