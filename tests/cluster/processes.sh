# shellcheck shell=bash
# Daemons by recorded pid. A record holds the pid and the time the process started, so that a pid the kernel
# has since given to somebody else is never taken for ours. Sourced, never run; needs lib.sh and
# addresses.sh.

started_at() { local stat; stat=$(cat "/proc/$1/stat" 2>/dev/null) && set -- ${stat##*) } && printf '%s\n' "${20}"; }

# start NAME COMMAND...: run a daemon in a session of its own, its output in the logs. It is recorded before it runs:
# whenever this script is killed, there is no daemon without a record.
start() {
  local name=$1
  shift
  rm -f "$run/pids/$name"
  (
    pid=$BASHPID # not that of the substitution below
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$run/.$name" && mv "$run/.$name" "$run/pids/$name"
    exec setsid "$@" </dev/null >>"$state/logs/$name.log" 2>&1 3>&- 8>&- 9>&-
  ) &
  wait_for "the record of $name" 10 test -e "$run/pids/$name"
}

# running NAME: the recorded process is there, and is still the one that was started.
running() {
  local pid since
  read -r pid since 2>/dev/null <"$run/pids/$1" && [[ -n $since && $(started_at "$pid") == "$since" ]] && ! ended "$pid"
}

# ended PID: gone, or only not yet buried by its parent.
ended() { [[ ! -e /proc/$1/stat || $(cat "/proc/$1/stat" 2>/dev/null) =~ \)\ [ZX] ]]; }

# finish NAME: end the recorded process, if it is still the one that was started, with what it started in turn: a
# half-finished iptables-restore of kube-proxy's would bring back rules that are about to be removed.
finish() {
  local pid
  if running "$1"; then
    read -r pid _ <"$run/pids/$1"
    kill -KILL -- "-$pid" 2>/dev/null || true
    wait_for "the end of $1" 20 group_ended "$pid"
  fi
  rm -f "$run/pids/$1"
}

group_ended() {
  local pid
  for pid in $(pgrep --pgroup "$1"); do
    ended "$pid" || return
  done
}
