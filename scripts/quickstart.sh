#!/usr/bin/env bash
# One command to a running TarnFS: sets up, builds, starts a cluster on this machine, puts real files in, mounts it,
# verifies every byte, kills every process, brings the cluster back, verifies again, and leaves it running.
#
# Usage: scripts/quickstart.sh           run it; a second run replaces the first
#        scripts/quickstart.sh --stop    stop what a run left and remove it
#
# Everything it makes lies in build/quickstart/: the cluster's data in cluster/, the mount at mnt/, logs in logs/.

set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$source_root/scripts/console.sh"
source "$source_root/scripts/local_cluster.sh"

root_dir=$source_root/build/quickstart
cluster_dir=$root_dir/cluster
mount_dir=$root_dir/mnt
log_dir=$root_dir/logs
bin_dir=$source_root/build/release/bin
sources=(/usr/include /usr/share/doc)
space_needed_mib=4096
fio_size=512M
fio_seconds=5

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# step TIMEOUT_SECONDS WORDS COMMAND...: runs a step, with its output in logs/ and its time in step_seconds.
step() {
  local limit=$1 words=$2 log started
  shift 2
  log=$log_dir/$(tr -cs 'a-z0-9\n' '_' <<<"${words,,}").log
  say "$words"
  started=$(date +%s%N)
  if ! env -u TARN_META timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    die "this failed: $*" $'\n'"       its output is in $log, the servers' logs are under $cluster_dir;" \
      "scripts/quickstart.sh --stop removes everything"
  fi
  step_seconds=$(awk -v ns=$(($(date +%s%N) - started)) 'BEGIN { printf "%.3f", ns / 1e9 }')
}

results=()
# result WHAT VALUE UNIT
result() { results+=("$(printf '%-46s %12s %s' "$1" "$2" "$3")"); }
per_second() { awk -v amount="$1" -v seconds="$2" 'BEGIN { printf "%.0f", amount / (seconds > 0.001 ? seconds : 0.001) }'; }

check_machine() {
  [[ -e /dev/fuse ]] || die "/dev/fuse is missing: TarnFS mounts through FUSE" \
    "(in a container: --device /dev/fuse --cap-add SYS_ADMIN)"
  mkdir -p "$source_root/build"
  local free_mib
  free_mib=$(df --output=avail -m "$source_root/build" | tail -n 1)
  ((free_mib >= space_needed_mib)) || die "$source_root/build needs $space_needed_mib MiB of free space, it has $free_mib"
}

count_sources() {
  source_files=$(find "${sources[@]}" -type f | wc -l)
  source_bytes=$(find "${sources[@]}" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f", sum }')
}

drop_caches() {
  sync -f "$root_dir"
  { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null || warn "caches are not dropped (that needs root)"
}

remount() {
  step 60 "unmount" "$bin_dir/tarn" umount "$mount_dir"
  step 60 "mount anew" "$bin_dir/tarn" mount default "$mount_dir" --dir "$cluster_dir"
}

# compare WHEN: every source tree with its copy in the mount, byte for byte, symbolic links as links.
compare() {
  local tree
  for tree in "${sources[@]}"; do
    step 1200 "compare $tree with the mount, $1" diff -r --no-dereference "$tree" "$mount_dir/data/${tree##*/}"
    compare_seconds=$(awk -v a="$compare_seconds" -v b="$step_seconds" 'BEGIN { print a + b }')
  done
}

compare_cold() {
  compare_seconds=0
  drop_caches
  compare "$1"
  result "files verified $1" "$source_files" "files, all equal"
  result "  cold read and compare" "$(per_second "$source_files" "$compare_seconds")" "files/s"
}

put_sources() {
  step 1200 "put $source_files files ($((source_bytes >> 20)) MiB) in" \
    "$bin_dir/tarn" put --dir "$cluster_dir" "${sources[@]}" default:/data/
  result "tarn put" "$(per_second "$source_files" "$step_seconds")" "files/s"
  result "  of files with a mean size of" "$((source_bytes / source_files / 1024))" "KiB"
}

# fio_job NAME WORDS FIELD UNIT OPTION...: FIELD is fio's (bw_bytes or iops), of whichever direction did the work.
fio_job() {
  local name=$1 words=$2 field=$3 unit=$4 value
  shift 4
  step 300 "fio: $words" fio --name="$name" --filename="$mount_dir/fio.bin" --ioengine=psync --group_reporting \
    --fallocate=none --output="$log_dir/fio_$name.json" --output-format=json "$@"
  value=$(python3 - "$log_dir/fio_$name.json" "$field" <<'PYTHON'
import json, sys
job = json.load(open(sys.argv[1]))["jobs"][0]
value = max(job[direction][sys.argv[2]] for direction in ("read", "write"))
print(round(value / 1e6 if sys.argv[2] == "bw_bytes" else value))
PYTHON
  )
  result "$words" "$value" "$unit"
}

run_fio() {
  local random=(--bs=4k --rw=randread --direct=1 --size="$fio_size" --time_based --runtime="$fio_seconds")
  fio_job write "sequential write with fsync, 1 MiB" bw_bytes "MB/s" --rw=write --bs=1M --size="$fio_size" --end_fsync=1
  fio_job read "sequential read, 1 MiB, O_DIRECT" bw_bytes "MB/s" --rw=read --bs=1M --size="$fio_size" --direct=1
  fio_job random1 "random read, 4 KiB, O_DIRECT, 1 job" iops "IOPS" "${random[@]}"
  fio_job random16 "random read, 4 KiB, O_DIRECT, 16 jobs" iops "IOPS" "${random[@]}" --numjobs=16
  rm -f "$mount_dir/fio.bin"
}

start_cluster() {
  step 120 "$1" "$bin_dir/tarn" dev up --dir "$cluster_dir" --chunkservers 3 --mount "$mount_dir"
}

crash_and_return() {
  local count
  count=$(cluster_pids "$bin_dir" "$root_dir" | wc -l)
  say "kill all $count processes with SIGKILL"
  ((count >= 5)) || die "expected a metadata server, three chunk servers and a client, found $count processes"
  kill_cluster KILL "$bin_dir" "$root_dir"
  detach_mounts "$root_dir"
  start_cluster "bring the cluster back from the same directory"
  result "back after SIGKILL of all $count processes in" "$step_seconds" "s"
}

stop() {
  if [[ -x $bin_dir/tarn && -d $cluster_dir ]]; then
    env -u TARN_META timeout -k 5 60 "$bin_dir/tarn" dev down --dir "$cluster_dir" >/dev/null 2>&1 </dev/null ||
      warn "tarn dev down did not end well; stopping its processes one by one"
  fi
  detach_mounts "$root_dir"
  kill_cluster TERM "$bin_dir" "$root_dir"
  detach_mounts "$root_dir"
  rm -rf --one-file-system "$root_dir"
}

print_results() {
  printf '\n%s\n' "Measured on this machine ($(nproc) cores, everything on it, one copy of the data):"
  printf '  %s\n' "${results[@]}" | tee "$log_dir/results.txt"
  cat <<TEXT

TarnFS is mounted at $mount_dir. Try:
  ls $mount_dir/data/include | head
  $bin_dir/tarn status --dir $cluster_dir
  $bin_dir/tarn put --dir $cluster_dir YOUR_DIRECTORY default:/

(scripts/quickstart.sh --stop removes it again.)
TEXT
}

main() {
  case "${1:-}" in
    '') ;;
    --stop)
      stop
      say "stopped; build/quickstart is gone"
      return 0
      ;;
    -h | --help) usage; return 0 ;;
    *) usage >&2; return 2 ;;
  esac
  check_machine
  "$source_root/scripts/setup.sh"
  "$source_root/scripts/build.sh" release tarn_programs
  stop
  mkdir -p "$mount_dir" "$log_dir"
  count_sources

  start_cluster "start a cluster with 3 chunk servers and mount its volume"
  result "cluster of 3 chunk servers up and mounted in" "$step_seconds" "s"
  put_sources
  remount
  compare_cold "after tarn put"
  run_fio
  crash_and_return
  remount
  compare_cold "after the crash"
  print_results
}

main "$@"
