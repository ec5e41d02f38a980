#!/usr/bin/env bash
# Builds the image of manifests/Containerfile and runs it as the cluster does: as user 65532, with nothing to write to
# but a folder of its own. With podman or, as root, with buildah and no daemon; where the base image's registry is out
# of reach, a base of the same Python is made of Debian's packages (mmdebstrap). A few minutes; prints the image's name.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=warmtide:$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
base=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' manifests/Containerfile | sort -u)
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

need() { command -v "$1" >/dev/null || { echo "needs $1: install Debian's package $1" >&2; exit 1; }; }

if command -v podman >/dev/null; then
  engine=(podman)
  isolated=()
else
  need buildah
  engine=(buildah --storage-driver vfs)
  isolated=(--isolation chroot)
fi

from_debian() { # the same Python, so that the image is what it would be but for the base's other packages
  need mmdebstrap
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python-is-python3,ca-certificates \
    bookworm "$home/base.tar" /etc/apt/sources.list.d/*.sources
  printf 'FROM scratch\nADD base.tar /\n' >"$home/Base"
  "${engine[@]}" build "${isolated[@]}" --tag "docker.io/library/$base" --file "$home/Base" "$home"
}

build() {
  local host=() given
  # What pip needs to reach its index from here, as it is set up on this machine.
  for given in /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf /etc/hosts; do host+=(--volume "$given:$given:ro"); done
  for given in PIP_CERT PIP_INDEX_URL PIP_DEFAULT_TIMEOUT; do [ -z "${!given:-}" ] || host+=(--env "$given"); done
  "${engine[@]}" build "${isolated[@]}" --pull=missing "${host[@]}" --file manifests/Containerfile --tag "$image" .
}

check() { # what the pods call, as the user that they run as
  local container
  chmod 755 "$home"
  mkdir -m 777 "$home/models" "$home/origin"
  head -c 1000000 /dev/urandom >"$home/origin/model.safetensors"
  if [ "${engine[0]}" = podman ]; then
    in_it() { podman run --rm --read-only --user 65532:65532 --volume "$home:/scene" --entrypoint warmtide "$image" "$@"; }
  else
    container=$("${engine[@]}" from "$image")
    in_it() {
      "${engine[@]}" run "${isolated[@]}" --user 65532:65532 --volume "$home:/scene" "$container" -- warmtide "$@"
    }
  fi
  in_it --version
  in_it controller --help >/dev/null
  in_it agent --help >/dev/null
  in_it cache prefetch /scene/models file:///scene/origin
  in_it cache verify /scene/models
  [ -z "${container:-}" ] || "${engine[@]}" rm "$container" >/dev/null
}

{
  "${engine[@]}" inspect "docker.io/library/$base" >/dev/null 2>&1 || "${engine[@]}" pull "docker.io/library/$base" || from_debian
  build
  check
} >&2
echo "$image"
