#!/usr/bin/env bash
# Takes a shop's PostgreSQL from nothing to version 003, breaks the next script, and shows what comes of it.
# `make demo` runs it on a cluster in which the operator runs; `demo.sh down` takes it all away again.
# BELAY_KUBECONFIG names another cluster; POSTGRES_IMAGE another server's image.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd -P)
[[ -z ${BELAY_KUBECONFIG:-} ]] || export KUBECONFIG=$BELAY_KUBECONFIG
# The cluster that `make cluster` brings up, whose node is called belay, pulls nothing: `make image` has put a server there.
[[ $(kubectl get node belay --ignore-not-found --output name) ]] && default=belay-postgres:dev || default=postgres:17
image=${POSTGRES_IMAGE:-$default}

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
number=0
step() { number=$((number + 1)); printf '\n%s%d. %s%s\n' "$bold" "$number" "$*" "$plain"; }
# show COMMAND...: prints it as one would type it, and runs it.
show() {
  local words
  printf -v words ' %s' "${@@Q}"
  printf '%s$%s%s\n' "$dim" "$(sed "s/'\([A-Za-z0-9_.,:/=@-]*\)'/\1/g" <<<"$words")" "$plain"
  "$@"
}
quietly() { "$@" >/dev/null; }
in_shop() { kubectl --namespace shop "$@"; }
sql() { in_shop exec --stdin statefulset/postgres -- psql --username shop --dbname shop --no-psqlrc --no-align --tuples-only --quiet --set ON_ERROR_STOP=1 "$@"; }
message() { in_shop get migration shop --output 'jsonpath={.status.conditions[?(@.type=="Ready")].message}{"\n"}' | fold -s -w 100; }
# reason REASON SECONDS: until Ready has it.
reason() { quietly in_shop wait migration/shop --for "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=$1" --timeout "$2s"; }
version() { quietly in_shop wait migration/shop --for "jsonpath={.status.version}=$1" --timeout "$2s"; }
# scripts [FILE]: the ConfigMap, as a release would change it, with FILE as the script 004.
scripts() {
  in_shop create configmap shop-migrations --dry-run=client --output yaml --from-file "$here/shop/migrations" \
    ${1:+--from-file "004_split_totals.sql=$1"} | quietly in_shop apply --filename -
}

explain_failure() {
  local status=$?
  ((status == 0)) && return
  {
    printf '\nThe demo stopped in step %d. What the cluster says:\n\n' "$number"
    in_shop get migrations,postgresdatabases,postgresbackups,jobs,pods || true
    in_shop get migration shop --output yaml || true
    in_shop get events --sort-by .lastTimestamp | tail -n 20 || true
    in_shop logs --selector belay.dev/database --all-containers --prefix --tail 20 || true
    kubectl --namespace belay-system logs deployment/belay --tail 60 || true
  } >&2
  exit "$status"
}

if [[ ${1:-} == down ]]; then
  kubectl delete namespace shop --ignore-not-found --timeout 120s
  printf 'The demo is gone. The operator and the cluster still run: make cluster-down ends them.\n'
  exit
fi

trap explain_failure EXIT
started=$SECONDS
if [[ $(kubectl get namespace shop --ignore-not-found --output name) ]]; then
  printf 'A demo is there already: it is taken away first.\n'
  quietly kubectl delete namespace shop --timeout 120s
fi

step "A namespace with a PostgreSQL, an empty database, a volume for backups"
kubectl kustomize "$here/shop" | sed "s|image: postgres:17$|image: $image|" | kubectl apply --filename - | sed 's/^/  /'

step "The operator waits for the server, backs the database up in a Job, applies three scripts, checks health"
quietly in_shop wait postgresbackup --all --for create --timeout 120s
show kubectl -n shop get jobs
version 003 180
reason Succeeded 60
message

step "What the cluster knows now"
show kubectl -n shop get migrations
show kubectl -n shop get postgresbackups
show kubectl -n shop get postgresdatabases

step "What the database itself knows: each row was committed with its script"
show kubectl -n shop exec statefulset/postgres -- psql -U shop -c \
  "select version, description, author, applied_at::timestamp(0), duration_ms as ms from belay.history order by applied_at"

step "The shop opens: users, and 600 orders, of which 200 are drafts"
sql <"$here/demo/rows.sql"
rows() { sql --command "select (select count(*) from users) || ' users, ' || (select count(*) from orders) || ' orders'"; }
before=$(rows)
printf '  %s\n' "$before"

step "A release brings script 004, which deletes the drafts, adds a column, and then names a column that is not there"
grep -v '^--\|^$' "$here/demo/004_split_totals.broken.sql" | sed 's/^/  /'
scripts "$here/demo/004_split_totals.broken.sql"
reason ScriptFailed 180

step "Belay stopped, and says what happened, what state the data is in, and what to do next"
show kubectl -n shop get migrations
message

step "Nothing was lost: the drafts are back, and the database is at 003 as before"
after=$(rows)
printf '  before: %s\n  after:  %s\n' "$before" "$after"
[[ $after == "$before" ]]
[[ $(sql --command "select max(version::int) from belay.history") == 3 ]]

step "The script is corrected in the ConfigMap. Nobody tells Belay: it sees the change, and goes on"
scripts "$here/demo/004_split_totals.sql"
version 004 180
reason Succeeded 60
show kubectl -n shop get migrations
show kubectl -n shop get postgresbackups
printf '  rows:   %s\n' "$(rows)"
[[ $(rows) == "$before" ]]

trap - EXIT
cat <<END

${bold}Done in $((SECONDS - started)) s. The cluster stays up; try next:${plain}
  kubectl -n shop describe migration shop                 the conditions, the runs, the events
  kubectl -n shop edit configmap shop-migrations          add 005_something.sql, and watch:
  kubectl -n shop get migrations --watch
  kubectl -n shop exec -it statefulset/postgres -- psql -U shop
  kubectl -n belay-system logs deployment/belay -f        what the operator does
  make demo-down                                          take the demo away
  make cluster-down                                       end the cluster
END
[[ -n ${BELAY_KUBECONFIG:-} ]] || printf '\nkubectl is at target/cluster/bin/kubectl; export KUBECONFIG=%s\n' "${KUBECONFIG:-target/cluster/kubeconfig}"
