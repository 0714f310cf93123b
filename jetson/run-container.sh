#!/usr/bin/env bash
# Runs ssmprof in a container on a Jetson with what it needs of the host:
#   jetson/run-container.sh [--print] IMAGE [arguments of ssmprof]
# --print only shows the command. Results land in ./reports. The files are mounted read-only; they name
# the release and the power modes, and tegrastats is the second source of readings. SYS_PTRACE lets
# py-spy look into the worker. --runtime nvidia: on JetPack 6 `--gpus all` fails.
set -euo pipefail
show=0
if [[ ${1:-} == --print ]]; then
  show=1
  shift
fi
if (($# < 1)); then
  sed -n '2,6p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
  exit 2
fi
image=$1
shift
command=(docker run --rm --runtime nvidia --ipc host --cap-add SYS_PTRACE
  -v "$PWD/reports:/results/reports")
for path in /etc/nv_tegra_release /etc/nvpmodel.conf /var/lib/nvpmodel /usr/bin/tegrastats; do
  if ((show)) || [[ -e $path ]]; then
    command+=(-v "$path:$path:ro")
  fi
done
command+=("$image" "$@")
if ((show)); then
  printf '%q ' "${command[@]}"
  printf '\n'
else
  mkdir -p reports
  exec "${command[@]}"
fi
