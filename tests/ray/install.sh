#!/usr/bin/env bash
# Installs Ray beside the simulator into a venv of its own in the cache folder (about 1.1 GB), once for each set of
# pins, and prints the venv. The project itself is not in it: PYTHONPATH says where that is, to Ray's workers, too.
set -euo pipefail
cd "$(dirname "$0")/../.."
pins=$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)
home=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/ray
venv=$home/venv
if [ "$(cat "$home/.ready" 2>/dev/null)" = "$pins" ]; then
  echo "$venv"
  exit
fi
{
  echo "installing Ray into $venv (once; about three minutes, 1.1 GB)"
  mkdir -p "$home" && rm -f "$home/.ready"
  [ -x "$venv/bin/python" ] || ${PYTHON:-python3} -m venv "$venv"
  pip() { "$venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
  pip install -c constraints.txt '.[sim,ray]' hypothesis pytest pytest-asyncio pytest-socket pytest-timeout
  pip uninstall --yes warmtide
  echo "$pins" >"$home/.ready"
} >&2
echo "$venv"
