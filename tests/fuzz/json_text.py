"""JSON as text, with what a parser meets and a generator of values never makes.

Numbers that no float or integer type holds, NaN, halves of surrogate pairs, NUL, members that come twice, deep nesting.
"""

import json
from typing import Any, Final

from hypothesis import strategies as st

# Every character, halves of surrogate pairs among them.
ANY_TEXT: Final = st.text(st.characters(codec=None), max_size=20)
TEXT: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)

NUMBERS: Final = st.sampled_from(
    [
        "0", "-0", "-0.0", "1.0", "0.1", "1e0", "1E400", "-1e400", "1e-400", "5e-324", "9007199254740993",
        str(2**31), str(-(2**31) - 1), str(2**63), str(2**63 - 1), str(-(2**63) - 1), str(2**64), "9" * 25, "9" * 400,
        "9" * 5000, f"0.{'3' * 400}", "NaN", "Infinity", "-Infinity",
    ]
)  # fmt: skip
ODD: Final = st.sampled_from(
    [
        "null", "true", "[]", "{}", '""', '" "', r'"\u0000"', r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', '"1"',
        '"2026-01-02T03:04:05Z"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"',
        '"2026-02-30T00:00:00Z"',
        "[" * 40 + "]" * 40, '{"a":' * 300 + "1" + "}" * 300, "[" * 3000 + "]" * 3000, '{"a":1,"a":2}', '{"":0}',
        r'{"\u0000":0}', r'["\u0000",[["\u0000"]]]', "[" * 600 + r'"\u0000"' + "]" * 600, '"1970-01-01"', r'"\\/"',
    ]
)  # fmt: skip


def _string(text: str) -> str:
    return json.dumps(text)


def _list(members: list[str]) -> str:
    return f"[{','.join(members)}]"


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{_string(name)}:{value}" for name, value in members) + "}"


SCALARS: Final = NUMBERS | ODD | ANY_TEXT.map(_string) | st.integers().map(str) | st.booleans().map(json.dumps)
ANY_JSON: Final = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(_list) | st.lists(st.tuples(ANY_TEXT, inner), max_size=4).map(_object)
    ),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, right: dict[str, Any]) -> str:
    """Return the text of an object that is `right` but for a few of its members: left out, changed, added, twice."""
    members = [(name, json.dumps(value)) for name, value in right.items()]
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(members) - 1)) if members else None
        match draw(st.sampled_from(["leave out", "change", "nest", "add", "again"])):
            case "leave out" if index is not None:
                del members[index]
            case "change" if index is not None:
                members[index] = (members[index][0], draw(ANY_JSON))
            case "nest" if index is not None and isinstance(right.get(members[index][0]), dict):
                members[index] = (members[index][0], draw(changed(right[members[index][0]])))
            case "again" if index is not None:
                members.append((members[index][0], draw(ANY_JSON)))
            case _:
                members.append((draw(ANY_TEXT), draw(ANY_JSON)))
    return _object(members)
