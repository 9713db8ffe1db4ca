"""README's page for clients is run as it stands, by bash, against a running instance."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from devstack.instance import Instance
from devstack.layout import CHECKOUT

README: Final = (CHECKOUT / "README.md").read_text(encoding="utf-8")

# Stands before curl: what each call answers goes into files, and out as ever.
CURL: Final = """
set -o pipefail
curl() {
    local answer; answer="$ANSWERS/$(ls "$ANSWERS" | grep -c head)"
    command curl --silent --show-error --dump-header "$answer.head" "$@" | tee "$answer.body"
}
"""


class Said(NamedTuple):
    """What the comment behind a command says of its answer."""

    status: int
    fragment: str


def blocks() -> list[str]:
    """Return the commands under "For clients"."""
    section = README.partition("\n## For clients\n")[2].partition("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def said() -> list[Said]:
    """Return what README says of every answer, in order."""
    found = re.findall(r"# ([1-5]\d\d)(?: (.+))?$", "\n".join(blocks()), re.MULTILINE)
    return [Said(int(status), fragment) for status, fragment in found]


def test_every_command_says_what_it_answers() -> None:
    assert len(re.findall(r"\bcurl -*\S*\s", re.sub(r"#.*", "", "\n".join(blocks())))) == len(said()) >= 15
    assert {answer.status for answer in said()} >= {200, 201, 202, 304, 409, 412, 422}


def test_the_page_for_clients_answers_what_it_says(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.mkdir()
    with Instance() as kata:
        commands = "".join(blocks()).replace("localhost:8000", kata.api.removeprefix("http://"))
        done = kata.run(["bash", "-c", f"ANSWERS={answers}\n{CURL}\n{commands}"])
    assert (done.returncode, done.stderr) == (0, "")
    for number, answer in enumerate(said()):
        head = (answers / f"{number}.head").read_text(encoding="utf-8")
        text = head + (answers / f"{number}.body").read_text(encoding="utf-8")
        assert head.startswith(f"HTTP/1.1 {answer.status} "), (number, answer, text)
        assert answer.fragment in text, (number, answer, text)
    assert not (answers / f"{len(said())}.head").exists()


def test_where_it_differs_from_the_kata_is_said() -> None:
    assert re.search(r"differs from the kata:.*100.*`api/scripts`", README)
