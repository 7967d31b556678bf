#!/usr/bin/env bash
# For machines with Docker: the compose project from nothing under a name, ports and secrets of its own; an edit by psql
# is found through POST /search; everything is removed again.
# Exit code: 0 it works, 1 it does not, 2 there is no Docker (Engine with Compose) or no curl to try it with.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() {
    step "FAILED: $*" >&2
    exit 1
}

if ! docker compose version >/dev/null 2>&1 || ! docker info >/dev/null 2>&1 || ! command -v curl >/dev/null; then
    echo "this needs a running Docker Engine with Compose, and curl: install and start them, then run it again" >&2
    exit 2
fi

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

COMPOSE_PROJECT_NAME="reindexer-test-$RANDOM$RANDOM"
POSTGRES_PASSWORD="$(secret)@/:%"
REINDEXER_ADMIN_API_KEY=$(secret)
POSTGRES_PORT=$(free_port)
QDRANT_PORT=$(free_port)
API_PORT=$(free_port)
export COMPOSE_PROJECT_NAME POSTGRES_PASSWORD REINDEXER_ADMIN_API_KEY POSTGRES_PORT QDRANT_PORT API_PORT
# Set and empty, so that a .env beside the file can't set them: the test costs nothing and needs no provider.
export REINDEXER_EMBEDDER=hashing OPENAI_API_KEY="" OPENAI_BASE_URL="" REINDEXER_EMBEDDING_MODEL="" REINDEXER_EMBEDDING_DIMENSIONS=""

end() {
    local code=$?
    trap - EXIT
    if ((code != 0)); then
        docker compose ps --all || true
        docker compose logs --no-color --tail 40 || true
    fi
    step "removing $COMPOSE_PROJECT_NAME with its volumes"
    docker compose down --volumes --remove-orphans --timeout 30 >/dev/null 2>&1 || step "docker compose down failed" >&2
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

health_of() {
    local container
    container=$(docker compose ps --quiet "$1")
    [[ -n $container ]] && docker inspect --format '{{.State.Health.Status}}' "$container"
}

within() { # within SECONDS COMMAND…: until the command succeeds
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < until)) || return 1
        sleep 0.2
    done
}

is_healthy() { [[ $(health_of "$1") == healthy ]]; }
is_unhealthy() { [[ $(health_of "$1") == unhealthy ]]; }

sql() { docker compose exec -T postgres psql -U postgres -qtAX -v ON_ERROR_STOP=1 -c "$1"; }

search() {
    curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$API_PORT/search" \
        --header "Authorization: Bearer $REINDEXER_ADMIN_API_KEY" --header 'Content-Type: application/json' \
        --data "{\"source\": \"context_items\", \"query\": \"$1\", \"limit\": 1}"
}

finds() { # finds QUERY TITLE: the nearest item has this title
    local answer
    answer=$(search "$1") && [[ $answer == *"\"$2\""* ]]
}

signal_worker() { # signal_worker STOP|CONT: to all processes of celery-worker but the container's init, which passes no STOP on
    docker compose exec -T celery-worker python - "SIG$1" <<'PYTHON'
import os, pathlib, signal, sys

for cmdline in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    pid = int(cmdline.parent.name)
    if pid not in (1, os.getpid()) and b"reindexer.celery_app" in cmdline.read_bytes():
        os.kill(pid, signal.Signals[sys.argv[1]])
PYTHON
}

step "building the image and starting $COMPOSE_PROJECT_NAME"
docker compose up --build --detach --quiet-pull

for service in postgres redis qdrant listener celery-worker celery-worker-bulk api; do
    within 120 is_healthy "$service" || fail "$service is not healthy but $(health_of "$service" || echo absent)"
    step "$service is healthy"
done

user=$(docker compose exec -T api id -u)
[[ $user != 0 ]] || fail "the image runs as root"
step "the image runs as user $user"

id=$(sql "INSERT INTO context_items (title, content) VALUES ('before', 'a heron stands in the reeds') RETURNING id")
within 30 finds "heron reeds" before || fail "the new row $id is not found"
step "row $id is found"

sql "UPDATE context_items SET title = 'after', content = 'quarterly tax return' WHERE id = '$id'"
within 30 finds "quarterly tax return" after || fail "the edit of $id is not found"
step "its edit is found"

signal_worker STOP
started=$SECONDS
within 75 is_unhealthy celery-worker || fail "a stopped celery-worker is still $(health_of celery-worker || echo absent)"
step "a stopped celery-worker is unhealthy after $((SECONDS - started)) s"
signal_worker CONT
within 60 is_healthy celery-worker || fail "a continued celery-worker is still $(health_of celery-worker || echo absent)"
step "a continued celery-worker is healthy again"

step "PASSED"
