#!/usr/bin/env bash
# Builds both images and runs them once, without a Docker daemon: buildah builds, podman runs. Prints a transcript; the
# one kept in transcript.txt is this script's and compose_once.sh's.
#
# Needs root, buildah, podman, runc, curl and git, and about two minutes. From the environment:
#
#   DATABASE_URL, MONGO_URL  THROW-AWAY databases: `alembic downgrade base` and clean_mongo.py are among what it runs.
#                            The containers use this machine's network, so 127.0.0.1 is right for servers on it, for
#                            instance for an empty database on those of `kata up --json`.
#   MONGO_DATABASE           default: kata_containers
#   PYTHON_IMAGE             base image, default: the Dockerfiles'. One made by hand will do: debootstrap with a CPython
#                            >= 3.11 that answers to `python` and has pip and venv, `buildah add`, `buildah commit`.
#   BUILD_ARGS               more words for `buildah bud`, for instance --volume of a pip.conf and of certificates
#   PODMAN, RUN_ARGS         default: `podman --runtime runc`, and ulimits that a machine without privileges grants
#   API_PORT, PROJECTOR_HTTP_PORT   default: 18000, 18001
#   ABOUT                    first line of the transcript: what was stood in for
#
# Every step has a time limit; containers and files are removed at the end, the two images stay.
# Exit code: 0 when each step did what was expected, else 1.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/transcript.sh"

: "${DATABASE_URL:?names a throw-away PostgreSQL database}" "${MONGO_URL:?names a throw-away MongoDB}"
export MONGO_DATABASE=${MONGO_DATABASE:-kata_containers}
export API_PORT=${API_PORT:-18000} PROJECTOR_HTTP_PORT=${PROJECTOR_HTTP_PORT:-18001}
read -ra podman <<<"${PODMAN:-podman --runtime runc --log-level fatal}"
read -ra build_args <<<"${BUILD_ARGS:-}"
read -ra run_args <<<"${RUN_ARGS:---ulimit nofile=1024:1024 --ulimit nproc=1024:1024}"
[ -z "${PYTHON_IMAGE:-}" ] || build_args+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")

work=$(mktemp -d)
api_url=http://127.0.0.1:$API_PORT
projector_url=http://127.0.0.1:$PROJECTOR_HTTP_PORT
# What docker-compose.yml says of these services, but for the network. No --init: here python itself is process 1.
hardened=("${run_args[@]}" --network host --read-only --tmpfs /tmp --cap-drop all --security-opt no-new-privileges)
mounts=(--user 4242:4242 --volume "$work/checkout/alembic:/app/alembic"
    --volume "$work/checkout/api:/app/api:ro" --volume "$work/checkout/shared:/app/shared:ro")
settings=(--env DATABASE_URL --env MONGO_URL --env MONGO_DATABASE)

cleanup() {
    for name in api projector; do
        [ ! -s "$work/$name" ] || "${podman[@]}" rm --force --time 1 "$(cat "$work/$name")" >/dev/null 2>&1
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
copy_of_head

[ -z "${ABOUT:-}" ] || printf '%s\n' "$ABOUT"
title "buildah: both images of $(git -C "$root" rev-parse --short HEAD)"
for name in api projector; do
    step 0 "buildah bud --isolation chroot --network host --format docker --file Dockerfile.$name --tag backend-kata-$name ." \
        buildah bud --isolation chroot --network host --format docker --layers "${build_args[@]}" \
        --file "$work/checkout/Dockerfile.$name" --tag "backend-kata-$name" "$work/checkout"
    "${podman[@]}" image inspect "backend-kata-$name" --format \
        '    user {{.Config.User}}, command {{.Config.Cmd}}, health check: {{if .Config.Healthcheck}}yes{{else}}NO{{end}}, {{.Size}} bytes'
done

title "podman: the migration, then both processes"
step 3 "podman run --rm --user 4242:4242 [hardening, mounts] backend-kata-api alembic upgrade head" \
    "${podman[@]}" run --rm "${hardened[@]}" "${mounts[@]}" "${settings[@]}" backend-kata-api alembic upgrade head
step 0 "podman run --detach --user 4242:4242 [hardening, mounts] backend-kata-api" \
    "${podman[@]}" run --detach --cidfile "$work/api" "${hardened[@]}" "${mounts[@]}" "${settings[@]}" --env API_PORT \
    backend-kata-api
# This one takes its secret from a file.
(umask 077 && printf '%s\n' "$DATABASE_URL" >"$work/database-url" && chown 1000:1000 "$work/database-url")
step 0 "podman run --detach --env DATABASE_URL_FILE=/run/secrets/database-url [hardening] backend-kata-projector" \
    "${podman[@]}" run --detach --cidfile "$work/projector" "${hardened[@]}" --env MONGO_URL --env MONGO_DATABASE \
    --env PROJECTOR_HTTP_PORT --env DATABASE_URL_FILE=/run/secrets/database-url \
    --volume "$work/database-url:/run/secrets/database-url:ro" backend-kata-projector
api=$(cat "$work/api") projector=$(cat "$work/projector")
in_api=("${podman[@]}" exec "$api") in_api_shown="podman exec api"
wait_for api "$api_url/ready"
wait_for projector "$projector_url/ready"

title "Not root; alive by the images' own health checks; the command line is on the PATH"
api_step 1 id
step 1 "podman exec projector id" "${podman[@]}" exec "$projector" id
step 1 "podman healthcheck run api" "${podman[@]}" healthcheck run "$api"
step 1 "podman healthcheck run projector" "${podman[@]}" healthcheck run "$projector"
step 1 "podman exec projector projector --version" "${podman[@]}" exec "$projector" projector --version
step 9 "podman exec projector projector status" "${podman[@]}" exec "$projector" projector status

title "The owner's five commands, with both processes running"
owners_five_commands

title "A write over HTTP, read back from MongoDB"
write_over_http_and_read_from_mongodb

title "SIGTERM: each ends by itself, long before the 30 s after which SIGKILL would come"
for name in api projector; do
    step 0 "podman stop --time 30 $name" "${podman[@]}" stop --time 30 "${!name}"
    code=$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "${!name}")
    printf '    exit code of the process: %s; the last line it logged:\n' "$code"
    "${podman[@]}" logs "${!name}" 2>&1 | grep . | tail -n 1 | tidy | sed 's/^/    /'
    [ "$code" -eq 0 ] || wrong "exit code $code"
done
verdict
