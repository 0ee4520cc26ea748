#!/usr/bin/env bash
# Measures a mounted file system: fio jobs, an epoch over small files, metadata rates.
#
# Usage: bench/run.sh MOUNTPOINT [--baseline DIR] [--json FILE] [--quick] ...     (bench/run.sh --help tells all)
#
# It works on any directory. The programs it needs are built first, in build/release.

set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$source_root/scripts/setup.sh" >&2
"$source_root/scripts/build.sh" release tarn-bench-epoch tarn-bench-meta >&2
exec python3 -B "$source_root/bench/run.py" --programs "$source_root/build/release/bin" "$@"
