# shellcheck shell=bash
# Container images without a Docker engine: folders become the layers of an OCI archive. Sourced, never run.

# oci_new LAYOUT: an image without layers.
oci_new() {
  umoci init --layout "$1"
  umoci new --image "$1:image"
}

# oci_layer LAYOUT FOLDER [INSIDE]: what is in the folder becomes a layer, at INSIDE (default /).
oci_layer() { umoci insert --image "$1:image" "$2" "${3:-/}"; }

# oci_configure LAYOUT FLAGS...: as `umoci config` takes them.
oci_configure() {
  local layout=$1
  shift
  umoci config --image "$layout:image" "$@"
}

# oci_archive LAYOUT NAME ARCHIVE: containerd takes the image's name from an annotation; without it, it has none.
oci_archive() {
  umoci gc --layout "$1"
  sed -i "s|\"org.opencontainers.image.ref.name\":\"image\"|\"io.containerd.image.name\":\"docker.io/library/$2\"|" "$1/index.json"
  grep -qF "/$2\"" "$1/index.json" || die "the index of the image has no place for a name: $(cat "$1/index.json")"
  tar -C "$1" -cf "$3" .
}

containerd_images() { ctr --address "$socket" --namespace k8s.io images "$@"; }
