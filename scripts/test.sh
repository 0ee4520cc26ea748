#!/usr/bin/env bash
# Sets up, builds the release preset and runs every test that this machine can run.
# The last lines are ctest's own summary; the exit status is ctest's.
#
# Usage: scripts/test.sh [CTEST_ARGUMENT...]     for example: scripts/test.sh -R layering

set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$source_root/scripts/console.sh"

case "${1:-}" in
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

"$source_root/scripts/setup.sh"
"$source_root/scripts/build.sh" release
say "running the tests"
cd "$source_root/build/release"
# No program under test may believe that it was told about another cluster.
unset TARN_META
exec ctest --output-on-failure -j2 "$@"
