"""Settings: read once, checked, and never shown."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.settings import Settings, SettingsError

CLASSES = [Settings, ApiSettings, ProjectorSettings]
ENTRY_POINTS = [["api.main"], ["projector.cli", "run"]]
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in CLASSES:
        for name in settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


@pytest.mark.parametrize("settings", CLASSES)
def test_the_defaults_are_a_server_on_this_machine(settings: type[Settings]) -> None:
    loaded = settings.load()
    assert loaded.database_url.get_secret_value() == "postgresql://postgres:postgres@127.0.0.1:5432/kata"
    assert loaded.mongo_url.get_secret_value() == "mongodb://127.0.0.1:27017/?replicaSet=rs0"
    assert loaded.mongo_database == "kata"
    assert loaded.log_level == "info"


@pytest.mark.parametrize("settings", CLASSES)
def test_every_setting_has_a_description_and_a_default(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().log_level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgresql+psycopg://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgresql://u:p%40%2F%25@h/d", "postgresql://u:p%40%2F%25@h/d"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("postgresql://h/d?sslmode=verify-full", "postgresql://h/d?sslmode=verify-full"),
    ],
)
def test_every_usual_form_of_a_database_url_is_read(monkeypatch: pytest.MonkeyPatch, url: str, read: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert Settings.load().database_url.get_secret_value() == read


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://h", "mongodb://u:p%40%2F%25@h:1/", "mongodb://[::1]:1/?replicaSet=rs0",
        "mongodb://a:1,b:2/kata?replicaSet=rs0&authSource=admin&w=majority&readPreference=secondaryPreferred",
        "mongodb://a:1,b:2/?directConnection=false&tls=true", "mongodb+srv://u:p@cluster.example/?tls=true",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["MONGO_URL", "MAINTENANCE_MONGO_URL"])
def test_every_usual_form_of_a_mongo_url_is_read(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(name, url)
    assert getattr(Settings.load(), name.lower()).get_secret_value() == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIGRATION_DATABASE_URL", SECRET), ("MAINTENANCE_DATABASE_URL", f"postgresql://u:{SECRET}@h"),
        ("MAINTENANCE_MONGO_URL", f"mongodb://u:{SECRET}@x@h/"),
        *(("DATABASE_URL", value) for value in (
            SECRET, f"mysql://u:{SECRET}@h/d", f"postgresql+asyncpg://u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h",
            f"postgresql://u:{SECRET}@h/", f"postgresql://u:{SECRET}%zz@h/d", f"postgresql://u:{SECRET}@x@h/d",
            f"postgresql://u:{SECRET}/x@h/d", f"postgresql://u:{SECRET}@h:port/d", f"postgresql://u@h/d?{SECRET}=1",
            f"postgresql://u:{SECRET}@[::1/d", f"host=h password={SECRET} dbname=d",
            f"postgresql://u:{SECRET}@h/d?sslmode={SECRET}", f"postgresql://u:{SECRET}@h/d?sslrootcert=/{SECRET}",
        )),
        *(("MONGO_URL", value) for value in (
            SECRET, f"http://u:{SECRET}@h", "mongodb://", f"mongodb://u:{SECRET}@x@h/", f"mongodb://u:{SECRET}@h:port/",
            f"mongodb://u:{SECRET}@h:99999/", f"mongodb://u:{SECRET}/x@h/", f"mongodb://u:{SECRET}@h/?tls=yes",
            f"mongodb://u:{SECRET}@h/?tslCAFile=x", f"mongodb://u:{SECRET}@h/?readPreference={SECRET}",
            f"mongodb://u:{SECRET}@h/?tls=true&tlsInsecure=true&tlsAllowInvalidCertificates=true",
            f"mongodb://u:{SECRET}@h/?tls=true&tlsCAFile=/{SECRET}", f"mongodb://u:{SECRET}@h/?tlsCAFile=/etc/passwd",
        )),
        ("MONGO_DATABASE", SECRET + "."), ("MONGO_DATABASE", SECRET * 10), ("MONGO_DATABASE", SECRET + "/x"),
        ("CONNECT_TIMEOUT_SECONDS", SECRET), ("CONNECT_TIMEOUT_SECONDS", "0"), ("CONNECT_TIMEOUT_SECONDS", "61"),
        ("LOG_LEVEL", SECRET), ("LOG_LEVEL", "INFO "), ("LOG_FORMAT", SECRET),
    ],
)  # fmt: skip
@pytest.mark.parametrize("settings", [ApiSettings, ProjectorSettings])
def test_a_wrong_value_is_named_with_what_was_expected_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, settings: type[Settings], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    (line,) = str(caught.value).splitlines()
    description = settings.model_fields[name.lower()].description
    assert description
    assert line.startswith(f"{name}: ")
    assert line.endswith(f" ({description})")
    assert SECRET not in line


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (ApiSettings, "API_PORT", "65536"), (ApiSettings, "API_PORT", "http"), (ApiSettings, "MAX_BODY_BYTES", "1"),
        (ApiSettings, "DATABASE_POOL_SIZE", "0"), (ApiSettings, "DEFAULT_WAIT_SECONDS", "31"),
        (ApiSettings, "DEFAULT_WAIT_SECONDS", "nan"), (ApiSettings, "STATEMENT_TIMEOUT_SECONDS", "0"),
        (ApiSettings, "READ_TIMEOUT_SECONDS", "inf"), (ApiSettings, "LAG_DEGRADED_SECONDS", "-1"),
        (ProjectorSettings, "BATCH_SIZE", "0"), (ProjectorSettings, "POLL_INTERVAL_SECONDS", "nan"),
        (ProjectorSettings, "PROJECTOR_HTTP_PORT", "-1"), (ProjectorSettings, "BATCH_DEADLINE_SECONDS", "x"),
    ],
)  # fmt: skip
def test_numbers_have_bounds(monkeypatch: pytest.MonkeyPatch, settings: type[Settings], name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: Input should be "):
        settings.load()


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "MONGO_URL", "LOG_LEVEL"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "DATABASE_URL",
        "MONGO_URL",
        "LOG_LEVEL",
    ]


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "")
    assert Settings.load().log_level == "info"


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", " https://a.example ,https://b.example,, ")
    assert ApiSettings.load().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_setting_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(f"postgresql://u:{SECRET}@h/d{ending}".encode())
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    monkeypatch.setenv("API_PORT_FILE", str(file.with_name("port")))
    file.with_name("port").write_text("81")
    loaded = ApiSettings.load()
    assert loaded.database_url.get_secret_value() == f"postgresql://u:{SECRET}@h/d"
    assert loaded.api_port == 81
    assert SECRET not in repr(loaded) + str(loaded)


def test_the_variable_wins_over_the_file_which_is_not_even_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MONGO_DATABASE", "mine")
    monkeypatch.setenv("MONGO_DATABASE_FILE", str(tmp_path / "missing"))
    assert Settings.load().mongo_database == "mine"


def test_an_empty_variable_gives_way_to_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("theirs\n")
    monkeypatch.setenv("MONGO_DATABASE", "")
    monkeypatch.setenv("MONGO_DATABASE_FILE", str(tmp_path / "name"))
    assert Settings.load().mongo_database == "theirs"


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_a_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=r"^DATABASE_URL(_FILE)?: "):
        Settings.load()


def test_a_directory_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path))
    with pytest.raises(SettingsError, match=r"^DATABASE_URL_FILE: cannot read the file it names: Is a directory$"):
        Settings.load()


def test_a_secret_in_the_place_of_its_files_name_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL_FILE", f"mongodb://u:{SECRET}@h/?replicaSet=rs0")
    with pytest.raises(SettingsError, match=r"^MONGO_URL_FILE: cannot read the file it names: ") as caught:
        Settings.load()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown


@pytest.mark.parametrize("entry_point", ENTRY_POINTS, ids=lambda arguments: arguments[0])
def test_a_process_with_a_wrong_setting_says_so_and_ends_with_2(entry_point: list[str]) -> None:
    wrong = {"DATABASE_URL": f"mysql://u:{SECRET}@h/d", "LOG_LEVEL": "loud"}
    done = subprocess.run(
        [sys.executable, "-m", *entry_point],
        env=os.environ | wrong, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == list(wrong)
    assert SECRET not in done.stderr + done.stdout
