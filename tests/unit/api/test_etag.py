"""Entity tags on the wire (RFC 9110, sections 8.8.3, 13.1.1 and 13.1.2)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import PreconditionFailedError
from api.etag import etag_of, parse_tags
from api.expected import ALL, NONE, Expected, Versions, VersionSet


def only(*versions: Versions) -> VersionSet:
    return VersionSet(frozenset(versions))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*", ALL),
        (" *\t", ALL),
        ('"3"', only((3,))),
        ('"3-7"', only((3, 7))),
        ('"3", "4" ,"5-6"', only((3,), (4,), (5, 6))),
        (',, "3",\t, ', only((3,))),
        ("", NONE),
        (" , ", NONE),
    ],
)
@pytest.mark.parametrize("strong", [True, False])
def test_a_list_of_tags_names_versions(header: str, expected: VersionSet, *, strong: bool) -> None:
    assert parse_tags(header, strong=strong) == expected


@pytest.mark.parametrize("tag", ['""', '"x"', '"03"', '"3-"', '"-3"', '"3,4"', '"3 "', '"٣"', '"\xe9"', '"0"', '"+3"'])
def test_a_tag_that_was_never_given_out_names_nothing(tag: str) -> None:
    if " " in tag or "٣" in tag:
        with pytest.raises(ValueError, match="expected"):
            parse_tags(tag, strong=True)
    else:
        assert parse_tags(f'{tag}, "8"', strong=True) == only((8,))


def test_a_weak_tag_equals_a_strong_one_for_if_none_match_alone() -> None:
    header = 'W/"3", "4"'
    assert parse_tags(header, strong=False) == only((3,), (4,))
    assert parse_tags(header, strong=True) == only((4,))


@pytest.mark.parametrize(
    "header", ["3", '"3', '3"', '"3" "4"', 'w/"3"', 'W/ "3"', '*, "3"', '"3", *', "'3'", '"3";q=1', '"\x7f"', '"3"x']
)
def test_what_is_no_list_of_tags_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_tags(header, strong=True)


@given(st.lists(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=3).map(tuple), max_size=5))
def test_every_tag_comes_back_as_the_versions_it_was_made_of(versions: list[Versions]) -> None:
    assert parse_tags(", ".join(map(etag_of, versions)), strong=True) == only(*versions)


@given(st.text(alphabet='W/"*,;- 37x\t\xe9'))
def test_no_header_is_anything_but_read_or_refused(header: str) -> None:
    with suppress(ValueError):
        assert isinstance(parse_tags(header, strong=True), VersionSet)


def test_expected_versions_are_one_of_these_and_none_of_those() -> None:
    Expected().check((1,))
    Expected(one_of=only((1,), (2,))).check((2,))
    Expected(none_of=only((1,))).check((2,))
    for refused in (
        Expected(one_of=only((1,))),
        Expected(one_of=NONE),
        Expected(none_of=only((2,))),
        Expected(none_of=ALL),
        Expected(one_of=only((2,)), none_of=only((2,))),
    ):
        with pytest.raises(PreconditionFailedError) as failed:
            refused.check((2,))
        assert failed.value.current == (2,)
