# shellcheck shell=bash
# Takes a cluster down, whatever is left of it: one that runs, one that was killed half way up, one whose clone
# was deleted. Sourced, never run; needs lib.sh, addresses.sh and processes.sh.

# cgroup_folders: ours in each hierarchy, version 1 and 2, deepest first.
cgroup_folders() {
  awk -v name="$cgroup" '$3 ~ /^cgroup2?$/ { print $2 "/" name }' /proc/mounts | while read -r folder; do
    [[ ! -d $folder ]] || find "$folder" -depth -type d
  done
}

pod_processes() { cgroup_folders | sed 's|$|/cgroup.procs|' | xargs -r cat 2>/dev/null | sort -u; }

# shims: the containerd-shims that answer to our socket, and to no other containerd's.
shims() {
  local exe pid
  for exe in /proc/[0-9]*/exe; do
    pid=${exe#/proc/}
    pid=${pid%/exe}
    [[ $(readlink "$exe" 2>/dev/null) == */containerd-shim* ]] || continue
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$socket" && printf '%s\n' "$pid"
  done
  return 0
}

no_pod_process() {
  local pids
  pids=$(shims; pod_processes)
  [[ -z $pids ]] && return
  # shellcheck disable=SC2086
  kill -KILL $pids 2>/dev/null
  return 1
}

# unmount_below FOLDER: everything mounted there, the latest first.
unmount_below() {
  awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r folder; do
    folder=$(printf '%b' "$folder")
    umount "$folder" 2>/dev/null || umount -l "$folder"
  done
}

# remove_rules: the chains of kube-proxy and CNI and our own rules, from every table, in one step a table.
remove_rules() {
  local tool rules ours="KUBE-|CNI-|$mark"
  for tool in iptables ip6tables; do
    rules=$("$tool-save" 2>/dev/null) || continue
    [[ ! $rules =~ $ours ]] || grep -Ev "$ours" <<<"$rules" | "$tool-restore"
  done
}

# restore_settings: the kernel settings that `up` changed.
restore_settings() {
  local name value
  [[ -f $run/settings ]] || return 0
  while read -r name value; do
    printf '%s\n' "$value" >"/proc/sys/$name" || true
  done <"$run/settings"
}

# remove_shared: our entries in folders whose places containerd 1.6 and CNI do not let one choose. The shims' sockets
# do not say whose they are; one that nobody listens at is nobody's.
remove_shared() {
  local owner=$1 socket bundle
  for socket in /run/containerd/s/*; do
    grep -qF "$socket" /proc/net/unix || rm -f "$socket"
  done
  for bundle in "$run"/containerd/io.containerd.runtime.v2.task/k8s.io/*; do
    rm -f /var/lib/cni/results/*-"${bundle##*/}"-*
  done
  [[ -z $owner ]] || find /var/log/containers -type l -lname "$owner/*" -delete 2>/dev/null || true
  rmdir /run/containerd/s /run/containerd /var/lib/cni/results /var/lib/cni /var/log/containers 2>/dev/null || true
}

# remove_state FOLDER: all but for its logs, and not while anything is mounted there.
remove_state() {
  local folder=$1
  [[ -d $folder ]] || return 0
  [[ $folder == */target/cluster ]] || die "$run/owner names $folder, which is no cluster's folder"
  ! grep -qF " $folder/" /proc/self/mountinfo || die "something is still mounted below $folder"
  find "$folder" -mindepth 1 -maxdepth 1 ! -name bin ! -name logs -exec rm -rf --one-file-system {} +
}

teardown() {
  local owner file
  [[ -d $run ]] || return 0
  owner=$(cat "$run/owner" 2>/dev/null || true)
  # The kubelet first: it would start again what is ended.
  for file in "$run/pids/kubelet" "$run"/pids/*; do
    [[ ! -e $file ]] || finish "${file##*/}"
  done
  wait_for "the end of the pods' processes" 30 no_pod_process
  unmount_below "$run"
  [[ -z $owner ]] || unmount_below "$owner"
  cgroup_folders | xargs -r -n1 rmdir
  ip link delete "$node_device" 2>/dev/null || true
  remove_rules
  restore_settings
  remove_shared "$owner"
  [[ -z $owner ]] || remove_state "$owner"
  [[ ! -e $run/made-var-lib-kubelet ]] || rm -rf --one-file-system /var/lib/kubelet
  rm -rf --one-file-system "$run"
}
