#!/usr/bin/env bash
# Runs docker-compose.yml once as the owner does: `docker compose up --build`, his five commands, a write, a stop.
# Prints a transcript; the one kept in transcript.txt is run_once.sh's and this script's.
#
# Needs root (for a checkout of another owner), curl and git, and a few minutes. From the environment:
#
#   COMPOSE       default: docker compose. Any Docker does as it is.
#   DOCKER_HOST   as usual. Without a Docker daemon, podman's answer to its API will do: `podman system service`, and
#                 DOCKER_BUILDKIT=0, because podman builds without BuildKit. Images made by hand and named like the
#                 real ones will do where none can be pulled; say so beside the transcript (ABOUT is its first line).
#   PROJECTOR_PORTS  default: 18001-18009; 0 with podman, whose API takes no range
#   PODMAN_TIMER  set to 1 where podman has no systemd that would run the health checks: then this script runs them.
#   PYTHON_IMAGE  base image, default: the Dockerfiles'
#
# The project has a name and ports of its own, so a running one is not disturbed; its containers, volumes and images are
# removed at the end. Every step has a time limit. Exit code: 0 when each step did what was expected, else 1.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/transcript.sh"

read -ra compose <<<"${COMPOSE:-docker compose}"
export COMPOSE_PROJECT_NAME=backend-kata-trial
export KATA_UID=4242 KATA_GID=4242 API_PORT=18000 PROJECTOR_PORTS=${PROJECTOR_PORTS:-18001-18009} POSTGRES_PORT=15432 MONGO_PORT=17017
work=$(mktemp -d)
api_url=http://127.0.0.1:$API_PORT
in_api=("${compose[@]}" exec --no-TTY api) in_api_shown="docker compose exec api"

cleanup() {
    timeout 120 "${compose[@]}" down --volumes --rmi local --timeout 10 >/dev/null 2>&1
    [ -z "${timer:-}" ] || kill "$timer"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
copy_of_head
cd "$work/checkout" || exit 1

if [ "${PODMAN_TIMER:-}" = 1 ]; then
    while sleep 1; do
        for container in $(podman ps --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"); do
            timeout 20 podman healthcheck run "$container" >/dev/null 2>&1
        done
    done &
    timer=$!
fi

# compose ARGUMENTS...: shown as typed, without the lines of progress.
compose_step() { step "$1" "docker compose ${*:2}" "${compose[@]}" --progress quiet "${@:2}"; }

[ -z "${ABOUT:-}" ] || printf '%s\n' "$ABOUT"
title "$("${compose[@]}" version | head -n 1), docker-compose.yml of $(git -C "$root" rev-parse --short HEAD)"
compose_step 0 up --build --detach --wait --wait-timeout 240 --scale projector=3
compose_step 9 ps --all --format "{{.Service}}: {{.State}} {{.Health}} {{.ExitCode}}"
projector_url=http://$(timeout 20 "${compose[@]}" port projector 8001)
compose_step 1 exec --no-TTY api id
compose_step 1 exec --no-TTY projector id
compose_step 9 exec --no-TTY projector projector status

title "The owner's five commands, with all processes running"
owners_five_commands

title "A write over HTTP, read back from MongoDB"
write_over_http_and_read_from_mongodb

title "SIGTERM: each ends by itself, long before the 30 s after which SIGKILL would come"
compose_step 0 stop api projector
compose_step 9 ps --all --format "{{.Service}}: {{.State}} {{.ExitCode}}" api projector
! grep --quiet --invert-match 'exited 0$' "$work/output" || wrong "an exit code other than 0"
verdict
