#!/usr/bin/env bash
# Checks C++ sources against .clang-format. Without clang-format it says so and succeeds.
#
# Usage: tools/check_format.sh [--fix] [FILE...]     all tracked sources when no file is named

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=(--dry-run --Werror)
if [[ ${1:-} == --fix ]]; then
  mode=(-i)
  shift
fi
if ! command -v clang-format >/dev/null; then
  echo "skipped: clang-format is not installed (scripts/setup.sh --lint installs it)"
  exit 0
fi
if [[ $# -gt 0 ]]; then
  files=("$@")
else
  mapfile -t files < <(git ls-files '*.cc' '*.h' '*.c')
fi
[[ ${#files[@]} -eq 0 ]] || clang-format "${mode[@]}" "${files[@]}"
