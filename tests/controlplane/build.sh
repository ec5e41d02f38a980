#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok from pinned Go modules, once,
# into a cache folder outside the tree. About 12 minutes the first time on two cores, nothing afterwards.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's|^require k8s.io/kubernetes v||p' "$here/kubernetes/go.mod")
out=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/controlplane/$version

build() { # folder, program, package
  if [ -x "$out/$2" ]; then return; fi
  echo "building $2 (once)"
  (cd "$here/$1" && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$out/$2.part.$$" "$3" && mv "$out/$2.part.$$" "$out/$2")
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/kube-apiserver" ]; then
  echo "$KUBEBUILDER_ASSETS"
  exit
fi
if [ "${1:-}" = --where ]; then # the folder, built or not
  echo "$out"
  exit
fi
if ! command -v go >/dev/null; then
  echo "Go is needed to build the control plane: install it, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver" >&2
  exit 1
fi
mkdir -p "$out"
{
  build etcd etcd .
  for program in kube-apiserver kube-controller-manager kube-scheduler; do
    build kubernetes "$program" "k8s.io/kubernetes/cmd/$program"
  done
  build kwok kwok sigs.k8s.io/kwok/cmd/kwok
} >&2
echo "$out"
