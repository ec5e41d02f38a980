#!/usr/bin/env bash
# Builds versitygw from a pinned Go module, once, into a cache folder outside the tree (about 90 seconds on two
# cores), and prints the program's path. `--where` only prints it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's|.*github.com/versity/versitygw v\([^ ]*\).*|\1|p' "$here/go.mod" | head -1)
out=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/s3server/$version/versitygw

if [ "${1:-}" != --where ] && [ ! -x "$out" ]; then
  if ! command -v go >/dev/null; then
    echo "Go is needed to build the S3 server" >&2
    exit 1
  fi
  mkdir -p "$(dirname "$out")"
  (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$out.part.$$" github.com/versity/versitygw/cmd/versitygw)
  mv "$out.part.$$" "$out"
fi
echo "$out"
