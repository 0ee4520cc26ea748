# shellcheck shell=bash
# Sourced by the other scripts: one way to talk to the person at the terminal.
# Colours only when standard output is a terminal; the text is the same without.

if [[ -t 1 ]]; then
  console_bold=$'\033[1m' console_red=$'\033[31m' console_yellow=$'\033[33m' console_off=$'\033[0m'
else
  console_bold='' console_red='' console_yellow='' console_off=''
fi

say() { printf '%s==>%s %s\n' "$console_bold" "$console_off" "$*"; }
warn() { printf '%swarning:%s %s\n' "$console_yellow" "$console_off" "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$console_red" "$console_off" "$*" >&2
  exit 1
}
