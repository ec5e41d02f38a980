#!/usr/bin/env bash
# Builds KEDA's operator and metrics adapter from a pinned Go module, once, into the cache folder beside the
# control plane's. About 10 minutes on two cores; only the reaction benchmark asks for it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's|.*github.com/kedacore/keda/v2 v||p' "$here/keda/go.mod" | head -1)
out=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/controlplane/keda-$version

build() { # program, package
  if [ -x "$out/$1" ]; then return; fi
  echo "building $1 (once)"
  (cd "$here/keda" && CGO_ENABLED=0 go build -p "${WARMTIDE_BUILD_JOBS:-2}" -trimpath -ldflags="-s -w" \
    -o "$out/$1.part.$$" "$2" && mv "$out/$1.part.$$" "$out/$1")
}

if [ "${1:-}" = --where ]; then # the folder, built or not
  echo "$out"
  exit
fi
if ! command -v go >/dev/null; then
  echo "Go is needed to build KEDA: install it" >&2
  exit 1
fi
mkdir -p "$out"
{
  build keda-operator github.com/kedacore/keda/v2/cmd/operator
  build keda-adapter github.com/kedacore/keda/v2/cmd/adapter
} >&2
echo "$out"
