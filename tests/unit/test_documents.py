"""The documents say what the code says, README's table of settings is made from it, and their links lead somewhere."""

import re
from pathlib import Path
from typing import Final

import pytest

from api.scripts.roles import RolesSettings
from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.access import AccessSettings
from shared.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted(path.name for path in ROOT.glob("*.md"))


def settings_table() -> str:
    """Return README's table of settings."""
    rows = ["| variable | read by | default | meaning |", "|---|---|---|---|"]
    readers = (
        (Settings, "all"),
        (AccessSettings, "API, projector"),
        (ApiSettings, "API"),
        (ProjectorSettings, "projector"),
        (RolesSettings, "`roles.py`"),
    )
    listed: set[str] = set()
    for settings, reader in readers:
        for name, field in settings.model_fields.items():
            if name in listed:
                continue
            listed.add(name)
            default = getattr(field.default, "get_secret_value", lambda field=field: field.default)()
            shown = f"`{default}`" if default not in ("", (), None) else "none"
            rows.append(f"| `{name.upper()}` | {reader} | {shown} | {field.description} |")
    return "\n".join(rows)


def test_readme_lists_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert settings_table() in readme, f"put this into README.md:\n\n{settings_table()}"


def anchors(document: str) -> set[str]:
    """Return what a link may name behind # in a document: its headings, as GitHub writes them there."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    for link in links:
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            assert (ROOT / (path or document)).exists(), link
            assert not anchor or anchor in anchors(path or document), link
