# Sourced by run_once.sh and compose_once.sh: runs steps, prints what they said, counts those that went wrong.
#
# They set, before they call what needs it: $work (a temporary directory of their own), $api_url, $projector_url, and
# in_api, the words that run a command in the API's container, with in_api_shown as a person would type them.
# shellcheck shell=bash
export LC_ALL=C
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
failures=0

wrong() {
    failures=$((failures + 1))
    printf '    WRONG: %s\n' "$1"
}

# No passwords, and nothing that differs from machine to machine.
tidy() {
    sed -e 's/\x1b\[[0-9;]*m//g' -e 's|://[^:@/ ]*:[^@/ ]*@|://USER:PASSWORD@|g' -e "s|$work/checkout|CHECKOUT|g" \
        -e "s|$root|CHECKOUT|g" -e "s|\b$(hostname)\b|HOST|g" | cut --characters 1-250
}

title() { printf '\n== %s\n' "$1"; }

# step LINES SHOWN-COMMAND COMMAND...: run it, print the last lines it wrote; every exit code but 0 is wrong.
step() {
    local lines=$1 shown=$2 code started=${EPOCHREALTIME/./}
    shift 2
    timeout 300 "$@" >"$work/output" 2>&1 </dev/null
    code=$?
    printf '$ %s\n' "$shown"
    [ "$code" -eq 0 ] || lines=20
    tail -n "$lines" "$work/output" | tidy | sed 's/^/    /'
    printf '    -> exit %s after %.1f s\n' "$code" "$(((${EPOCHREALTIME/./} - started) / 100000))e-1"
    [ "$code" -eq 0 ] || wrong "exit $code"
}

api_step() { step "$1" "$in_api_shown ${*:2}" "${in_api[@]}" "${@:2}"; }

# wait_for NAME URL: until it answers 200, at most a minute.
wait_for() {
    local started=$SECONDS
    until curl --silent --fail --max-time 2 --output /dev/null "$2"; do
        if [ $((SECONDS - started)) -ge 60 ]; then
            wrong "$1 is not ready: $(curl --silent --max-time 2 "$2" | tidy)"
            return
        fi
        sleep 0.2
    done
    printf '%s is ready (waited at most %s s)\n' "$1" "$((SECONDS - started + 1))"
}

# request STATUS METHOD PATH [BODY]: shows the answer, compares its status and leaves its first id in $id.
request() {
    local expected=$1 method=$2 path=$3 status
    status=$(curl --silent --max-time 15 --request "$method" --output "$work/body" --write-out '%{http_code}' \
        --header "Content-Type: application/json" ${4:+--data "$4"} "$api_url$path")
    touch "$work/body"
    printf '$ curl --request %s%s %s\n    %s %s\n' "$method" "${4:+ --data '$4'}" "$path" "$status" "$(tidy <"$work/body")"
    id=$(grep --only-matching '"id": *[0-9]*' "$work/body" | head -n 1 | tr -cd 0-9)
    [ "$status" = "$expected" ] || wrong "expected $expected"
}

# copy_of_head: $work/checkout, which belongs to user 4242. It is what is built and mounted, so that the trial revision
# never lands in the real checkout, and that it gets the right owner is no accident.
copy_of_head() {
    mkdir "$work/checkout"
    git -C "$root" archive HEAD | tar --extract --directory "$work/checkout"
    chown --recursive 4242:4242 "$work/checkout"
    chmod 755 "$work" "$work/checkout"
}

owners_five_commands() {
    api_step 3 alembic upgrade head
    api_step 2 alembic revision --autogenerate -m probe
    # Owner and group on this side of the mount; grep fails if there is no such file, or if it is another's.
    step 1 "stat --format '%u:%g %n' CHECKOUT/alembic/versions/*probe.py" \
        bash -c "stat --format '%u:%g %n' '$work'/checkout/alembic/versions/*probe.py | grep '^4242:4242 '"
    rm -f "$work"/checkout/alembic/versions/*probe.py
    api_step 3 alembic downgrade base
    api_step 3 python api/scripts/clean_mongo.py
    api_step 3 alembic upgrade head
    api_step 1 alembic current
    api_step 3 python api/scripts/seed.py
}

write_over_http_and_read_from_mongodb() {
    wait_for api "$api_url/ready"
    wait_for projector "$projector_url/ready"
    request 201 POST /users "{\"name\": \"Trial\", \"email\": \"trial-$RANDOM$RANDOM@example.com\"}"
    request 201 POST /items "{\"name\": \"Aged Brie\", \"sell_in\": 2, \"quality\": 0, \"owner_id\": ${id:-0}, \"tags\": [\"cheese\"]}"
    request 200 GET "/items/$id"
    api_step 1 python -c "import os, pymongo; database = pymongo.MongoClient(os.environ['MONGO_URL'])[os.environ['MONGO_DATABASE']]; print(database.items_read.find_one({'_id': ${id:-0}}))"
}

# verdict: the last line, and the exit code of the whole.
verdict() {
    printf '\n%s\n' "$([ "$failures" -eq 0 ] && echo "Everything did what was expected." || echo "WRONG: $failures")"
    [ "$failures" -eq 0 ]
}
