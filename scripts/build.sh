#!/usr/bin/env bash
# Configures and builds one preset: scripts/build.sh PRESET [TARGET...]     (PRESET: release, dev, asan or tsan)
# The compiler's output goes to build/PRESET/build.log; its end is shown when something fails.

set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$source_root/scripts/console.sh"

[[ $# -ge 1 ]] || die "usage: scripts/build.sh PRESET [TARGET...]"
preset=$1
shift
build_dir=$source_root/build/$preset
log_file=$build_dir/build.log
mkdir -p "$build_dir"
cd "$source_root"

# Some C++ files of this tree need more than 1 GB to compile: as many at a time as there are cores, but not more than
# there is memory for.
memory_gib=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$(nproc)
((jobs <= memory_gib)) || jobs=$((memory_gib > 1 ? memory_gib : 1))

report_failure() {
  grep -nE 'error:|FAILED:|undefined reference|CMake Error' "$log_file" | head -n 20 >&2 || true
  tail -n 20 "$log_file" >&2
  die "building preset $preset failed; the whole output is in $log_file"
}

started=$SECONDS
cmake --preset "$preset" >"$log_file" 2>&1 || report_failure
# What the configuration fell back to is for people to know.
sed -n '/^CMake Warning/,/^$/p' "$log_file" >&2
say "building preset $preset with $jobs jobs${*:+: $*}"
[[ $# -gt 0 ]] || set -- all
cmake --build "build/$preset" -j "$jobs" --target "$@" >>"$log_file" 2>&1 || report_failure
say "built preset $preset in $((SECONDS - started)) s"
