#!/usr/bin/env bash
# Writes what a Jetson shows under /sys and /proc as one text file, so that it replays on any machine:
#   jetson/capture.sh > my-board.tsv
# Rows are path, value and tag, separated by tabs; \0 is a NUL byte, \n a line break, !EAGAIN a read
# that raised that error, -> a symbolic link. Reads only, needs no root, and takes no serial numbers,
# addresses, host names or boot ids. CAPTURE_ROOT reads below another folder (for tests).
set -euo pipefail
export LC_ALL=C
root=${CAPTURE_ROOT:-}
tab=$'\t'

row() { printf '%s%s%s%s%s\n' "$1" "$tab" "$2" "$tab" "$3"; }

# A file's contents in one cell. bash cannot hold a NUL, so it travels as \001.
file() {
  local path=$1 text status=0
  [[ -f $root$path ]] || return 0
  text=$( (tr '\000' '\001' <"$root$path") 2>&1) || status=$?
  if ((status)); then
    case $text in
      *'temporarily unavailable'*) row "$path" '!EAGAIN' OBSERVED ;;
      *'ermission denied'*) row "$path" '!EACCES' OBSERVED ;;
      *'No such device'*) row "$path" '!ENODEV' OBSERVED ;;
    esac
    return 0
  fi
  text=${text//$'\001'/\\0}
  text=${text//$'\t'/ }
  row "$path" "${text//$'\n'/\\n}" OBSERVED
}

# A folder that is a link (they all are under /sys/class), then the named files behind it.
folder() {
  local link=$1 real name
  shift
  real=$(readlink -f "$root$link") || return 0
  real=${real#"$root"}
  [[ $real == "$link" ]] || row "$link" "-> $real" LINK
  for name in "$@"; do
    local found
    for found in "$root$real"/$name; do
      file "${found#"$root"}"
    done
  done
}

printf '# captured %s by jetson/capture.sh\n' "$(date -u +%Y-%m-%d)"
for path in /proc/device-tree/model /proc/device-tree/compatible /proc/device-tree/nvidia,boardids \
  /etc/nv_tegra_release /etc/nvpmodel.conf /var/lib/nvpmodel/status /proc/meminfo /proc/swaps \
  /proc/sys/kernel/osrelease /proc/sys/kernel/yama/ptrace_scope /sys/kernel/nvpmodel_clk_cap/emc \
  /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.current \
  /sys/devices/platform/gpu.0/load /sys/devices/gpu.0/load; do
  file "$path"
done
if [[ -r $root/etc/nv_boot_control.conf ]]; then
  spec=$(grep '^TNSPEC ' "$root/etc/nv_boot_control.conf" || true)
  [[ -z $spec ]] || row /etc/nv_boot_control.conf "$spec" OBSERVED
fi
if [[ -r $root/proc/vmstat ]]; then
  kills=$(grep '^oom_kill ' "$root/proc/vmstat" || true)
  [[ -z $kills ]] || row /proc/vmstat "$kills" OBSERVED
fi
for link in "$root"/sys/class/hwmon/*; do
  folder "${link#"$root"}" name label 'in[1-7]_label' 'in[1-3]_input' 'in[1-3]_enable' \
    'curr[1-3]_input' 'curr[1-3]_max' 'curr[1-3]_crit' 'curr[1-4]_*_alarm' 'shunt[1-3]_resistor' \
    samples update_interval power1_input 'oc[1-3]_event_cnt' 'oc[1-3]_throt_en' pwm1 fan1_input
done
for link in "$root"/sys/class/thermal/thermal_zone*; do
  folder "${link#"$root"}" type temp
done
for link in "$root"/sys/class/thermal/cooling_device*; do
  folder "${link#"$root"}" type cur_state
done
for link in "$root"/sys/class/devfreq/*; do
  path=${link#"$root"}
  folder "$path" cur_freq min_freq max_freq governor available_frequencies
  [[ ! -e $link/device ]] || folder "$path/device" load of_node/name
done
for path in "$root"/sys/devices/system/cpu/cpufreq/policy*; do
  folder "${path#"$root"}" related_cpus scaling_min_freq scaling_max_freq scaling_cur_freq
done
for path in "$root"/sys/bus/i2c/drivers/ina3221x/*/iio:device*; do
  [[ ! -d $path ]] || folder "${path#"$root"}" 'rail_name_[0-2]' 'in_power[0-2]_input'
done
exit 0
