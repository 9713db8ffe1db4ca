"""What a wake says survives the wire, two become one, and whatever else comes says that there is work."""

import pytest

from shared.outbox.wake import FROM_THE_START, Wake


@pytest.mark.parametrize(
    ("wake", "payload"), [(Wake(7), "7"), (Wake(7, "awaited"), "a7"), (Wake(7, "unawaited"), "u7")]
)
def test_a_wake_is_told_as_it_is(wake: Wake, payload: str) -> None:
    assert wake.encode() == payload
    assert Wake.decode(payload) == wake


@pytest.mark.parametrize("payload", ["", "a", "nonsense", "-5", "a-5", "aa5", "u", "ua5", "x5", "٣", "5a", "5 6"])
def test_what_cannot_be_read_wakes_everybody_from_the_start(payload: str) -> None:
    assert Wake.decode(payload) == Wake(FROM_THE_START)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Wake(7, "awaited"), Wake(5, "awaited"), Wake(5, "awaited")),
        (Wake(7, "unawaited"), Wake(5, "unawaited"), Wake(5, "unawaited")),
        (Wake(7, "unawaited"), Wake(5, "awaited"), Wake(5)),
        (Wake(7), Wake(5, "awaited"), Wake(5)),
        (Wake(5, "awaited"), Wake(7), Wake(5)),
    ],
)
def test_two_wakes_are_one_that_says_both(one: Wake, other: Wake, both: Wake) -> None:
    assert one | other == both
