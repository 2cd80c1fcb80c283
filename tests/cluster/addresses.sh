# shellcheck shell=bash disable=SC2034
# What the cluster takes of the machine, all under names of its own: one cluster a machine. Sourced, never run.

node_name=belay
node_device=belay0             # a bridge with nothing in it: not every kernel has the `dummy` type
node_address=10.77.0.1         # the API server, the kubelet and CoreDNS listen here, and here alone
pod_range=10.77.1.0/24
service_range=10.96.0.0/20
first_service_address=10.96.0.1
etcd_address=127.0.0.1:22379   # not where a pod could reach it
etcd_peer_address=127.0.0.1:22380
cgroup=belay-cluster           # every process of every pod is below it, in each hierarchy
mark=belay-cluster             # the comment on the iptables rules that neither kube-proxy nor CNI made
run=/run/belay-cluster         # sockets and pids; $run/owner names the folder that holds the rest
socket=$run/containerd.sock

# cluster_is_here: whether KUBECONFIG is that of the cluster on this machine, whichever clone brought it up.
cluster_is_here() { [[ $KUBECONFIG == "$(cat "$run/owner" 2>/dev/null)/kubeconfig" ]]; }
