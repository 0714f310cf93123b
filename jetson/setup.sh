#!/usr/bin/env bash
# Prepares a Jetson for ssmprof: identifies the release, makes a virtual environment, installs torch and
# triton from the index that fits this JetPack (only if they are missing), then ssmprof, then runs
# `ssmprof doctor`. Says what it would do; --yes does it. Never uses sudo; may be run again at any time.
#   jetson/setup.sh            show the commands
#   jetson/setup.sh --yes      run them
# VENV names the environment (default .venv beside this checkout). BOARD_ROOT reads the board's files
# below another folder (for tests).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$here/.venv}
root=${BOARD_ROOT:-}
act=0

usage() { sed -n '2,8p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; }
for argument in "$@"; do
  case $argument in
    --yes) act=1 ;;
    --dry-run) act=0 ;;
    -h | --help) usage && exit 0 ;;
    *) printf 'setup.sh: unknown option %s\n\n' "$argument" >&2 && usage >&2 && exit 2 ;;
  esac
done

say() { printf '%s\n' "$*"; }
stop() {
  printf 'setup.sh: %s\n' "$1" >&2
  [[ -z ${2:-} ]] || printf '  try: %s\n' "$2" >&2
  exit 1
}
run() {
  say "+ $*"
  ((act)) || return 0
  "$@"
}

compatible=$({ tr '\000' ' ' <"$root/proc/device-tree/compatible"; } 2>/dev/null || true)
[[ $compatible == *nvidia,tegra* ]] ||
  stop "this is no Jetson (no Tegra in /proc/device-tree/compatible)" "pip install ssmprof"
[[ $compatible =~ nvidia,(tegra[0-9]+) ]] && soc=${BASH_REMATCH[1]}
model=$({ tr -d '\000' <"$root/proc/device-tree/model"; } 2>/dev/null || echo 'unknown model')
release=$(sed -nE '1s/.*R([0-9]+) \(release\), REVISION: ([0-9.]+).*/\1.\2/p' \
  "$root/etc/nv_tegra_release" 2>/dev/null || true)
say "board: $model, ${soc:-unknown SoC}, L4T ${release:-not readable}"

# The same table as ssmprof/devices/jetson/install.py; a test holds them together.
case ${release%%.*} in
  36)
    python=python3.10
    # Without dependencies: with two indexes pip may take torch from the wrong one.
    packages=(--no-deps -r "$here/jetson/requirements-jetpack6.txt")
    more=(filelock fsspec jinja2 networkx numpy setuptools sympy typing-extensions)
    index=https://pypi.jetson-ai-lab.io/jp6/cu126
    ;;
  38 | 39)
    python=python3.12
    packages=(torch triton)
    more=()
    index=https://pypi.org/simple
    ;;
  35 | 34 | 32) stop "L4T $release: its Python is too old to collect with" "a newer JetPack" ;;
  *) stop "L4T ${release:-unknown}: no known torch for it" "ssmprof doctor, on the board itself" ;;
esac
[[ $soc == tegra264 && ${release%%.*} == 36 ]] && stop "Thor needs JetPack 7" "flash JetPack 7"

if ((act)); then
  command -v "$python" >/dev/null || stop "$python is not installed" "sudo apt install $python-venv"
fi
if [[ -x $venv/bin/python ]]; then
  say "environment $venv is there"
else
  run "$python" -m venv "$venv" ||
    stop "no environment could be made" "sudo apt install $python-venv"
fi
if [[ -x $venv/bin/python ]] && "$venv/bin/python" -c 'import torch, triton' 2>/dev/null; then
  say "torch and triton are there"
else
  if ((act)) && ! curl --silent --fail --head --max-time 20 "$index/" >/dev/null; then
    stop "$index does not answer" "pip install ${packages[*]}, from a mirror of it"
  fi
  run "$venv/bin/pip" install "${packages[@]}"
  ((${#more[@]} == 0)) || run "$venv/bin/pip" install "${more[@]}"
fi
run "$venv/bin/pip" install "$here"
if [[ $soc == tegra264 ]]; then
  say "Thor: triton before 3.7 needs TRITON_PTXAS_BLACKWELL_PATH=/usr/local/cuda/bin/ptxas (doctor says)"
fi
run "$venv/bin/ssmprof" doctor || say "doctor found an error; each line above names what mends it"
((act)) || say "nothing was changed; run again with --yes"
