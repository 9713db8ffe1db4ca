"""README says what the code says: the table of settings is made from the settings."""

from pathlib import Path
from typing import Final

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.settings import Settings

ROOT: Final = Path(__file__).parents[2]


def settings_table() -> str:
    """Return README's table of settings."""
    rows = ["| variable | read by | default | meaning |", "|---|---|---|---|"]
    for settings, reader in ((Settings, "all"), (ApiSettings, "API"), (ProjectorSettings, "projector")):
        for name, field in settings.model_fields.items():
            if settings is not Settings and name in Settings.model_fields:
                continue
            default = getattr(field.default, "get_secret_value", lambda field=field: field.default)()
            shown = f"`{default}`" if default not in ("", ()) else "none"
            rows.append(f"| `{name.upper()}` | {reader} | {shown} | {field.description} |")
    return "\n".join(rows)


def test_readme_lists_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert settings_table() in readme, f"put this into README.md:\n\n{settings_table()}"
