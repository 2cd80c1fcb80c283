# shellcheck shell=bash
# What every script of tests/cluster shares: where things are, how they speak, how they wait. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
here=$root/tests/cluster
state=$root/target/cluster
cache=${XDG_CACHE_HOME:-$HOME/.cache}/belay
[[ -z ${BELAY_KUBECONFIG:-} ]] || BELAY_KUBECONFIG=$(realpath "$BELAY_KUBECONFIG")
export KUBECONFIG=${BELAY_KUBECONFIG:-$state/kubeconfig}
export PATH=$state/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# now_ms: milliseconds of a clock for measuring.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s\n' "${t%???}"; }

# seconds_since MS: the time passed since now_ms said MS, as "1.2 s".
seconds_since() {
  local d=$(($(now_ms) - $1))
  printf '%d.%d s\n' $((d / 1000)) $((d % 1000 / 100))
}

# wait_for WHAT SECONDS COMMAND...: poll until the command succeeds; at the deadline, say what did not come.
wait_for() {
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what did not come in time; logs are in $state/logs"
    sleep 0.1
  done
}

# need_root: the cluster makes interfaces, mounts and cgroups.
need_root() { ((EUID == 0)) || die "this needs root: try sudo make ${1:-cluster}"; }
