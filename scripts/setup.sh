#!/usr/bin/env bash
# Installs what TarnFS needs to build and run: Debian packages, libraft 0.22 and libfuse 3.18.
#
# Safe to repeat: when nothing is missing it only looks, which takes a fraction of a second. What Debian's own
# release lacks is fetched through an apt configuration under build/deps, so the system's package sources stay
# as they are; libfuse is installed by prefix under build/deps, never into /usr/local.
#
# Usage: scripts/setup.sh [--lint]
#   --lint   also install clang-16, clang-tidy-16 and clang-format (not needed to build or test)

set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$source_root/scripts/console.sh"

deps_dir=$source_root/build/deps
fuse_prefix=$deps_dir/fuse3
raft_prefix=$deps_dir/raft
log_file=$deps_dir/setup.log
stamp_file=$deps_dir/setup.stamp
debian_mirror=http://deb.debian.org/debian
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
fuse_version_min=3.18.2 # 3.18.0 and 3.18.1 have a use after free
raft_version_min=0.22

packages=(
  git cmake ninja-build g++ ccache pkg-config dpkg-dev meson python3 ca-certificates procps
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev
  librocksdb-dev liburing-dev libnuma-dev libxxhash-dev libspdlog-dev libuv1-dev liblz4-dev
  libcli11-dev nlohmann-json3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  fuse3 fio xfsprogs e2fsprogs attr acl
)
lint_packages=(clang-16 clang-tidy-16 clang-format)

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "installing packages needs root: run scripts/setup.sh once as root"
  fi
}

# Runs a command with its output in the log; shows the end of the log when it fails.
logged() {
  printf '\n$ %s\n' "$*" >>"$log_file"
  if "$@" >>"$log_file" 2>&1 </dev/null 9>&-; then return 0; fi
  tail -n 15 "$log_file" >&2
  return 1
}

installed_version() { dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' "$1" 2>/dev/null | sed -n 's/^ii *//p'; }

missing_packages() {
  local present
  # dpkg-query fails when it does not know one of the packages, which is an answer too.
  present=$({ dpkg-query -W -f '${binary:Package} ${db:Status-Abbrev}\n' "$@" 2>/dev/null || true; } |
    awk '$2 == "ii" { sub(/:.*/, "", $1); print $1 }')
  comm -23 <(printf '%s\n' "$@" | sort -u) <(sort -u <<<"$present")
}

stamp_text() { sha256sum <"${BASH_SOURCE[0]}"; }

raft_present() {
  local version
  version=$(installed_version libraft-dev)
  [[ -e $raft_prefix/lib/libraft.a ]] || { [[ -n $version ]] && dpkg --compare-versions "$version" ge "$raft_version_min"; }
}

fuse_present() { [[ -e $fuse_prefix/lib/libfuse3.a ]] || [[ -n $(installed_version libfuse3-dev) && -e $deps_dir/fuse3.unavailable ]]; }

nothing_missing() {
  [[ -e $stamp_file && $(<"$stamp_file") == "$(stamp_text)" ]] || return 1
  [[ -z $(missing_packages "${wanted[@]}") ]] && raft_present && fuse_present
}

apt_install() {
  logged as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing ${#missing[@]} packages: ${missing[*]}"
  logged as_root apt-get -o DPkg::Lock::Timeout=600 update || warn "apt-get update failed; trying with the package lists at hand"
  apt_install "${missing[@]}" || die "could not install the packages; the whole output is in $log_file"
}

# apt with sources of its own: side_apt NAME COMMAND..., where NAME.sources lies under build/deps/apt/NAME.
side_apt() {
  local dir=$deps_dir/apt/$1
  shift
  as_root env DEBIAN_FRONTEND=noninteractive apt-get \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$dir/sources" \
    -o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
    -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none \
    -o DPkg::Lock::Timeout=600 "$@"
}

# side_sources NAME TYPE SUITE...: writes the sources and fetches their (signed) indexes.
side_sources() {
  local name=$1 type=$2 dir=$deps_dir/apt/$1
  shift 2
  mkdir -p "$dir"/{sources,lists/partial,cache/archives/partial}
  printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
    "$type" "$debian_mirror" "$*" "$debian_keyring" >"$dir/sources/$name.sources"
  logged side_apt "$name" update
}

# fetch_source PACKAGE DIR: unpacks Debian's source package into DIR and prints its version.
fetch_source() {
  local package=$1 dir=$2 suite dsc
  for suite in forky sid; do
    side_sources "source-$suite" deb-src "$suite" || continue
    rm -rf "$dir"
    mkdir -p "$dir"
    (cd "$dir" && logged side_apt "source-$suite" source --download-only "$package") || continue
    dsc=$(find "$dir" -name "${package}_*.dsc" | head -n 1)
    logged dpkg-source --no-check -x "$dsc" "$dir/tree" || continue
    sed -n 's/^Version: //p' "$dsc"
    return 0
  done
  return 1
}

install_raft() {
  raft_present && return 0
  local candidate codename
  candidate=$(apt-cache policy libraft-dev | sed -n 's/^  Candidate: //p')
  if [[ -n $candidate && $candidate != '(none)' ]] && dpkg --compare-versions "$candidate" ge "$raft_version_min"; then
    say "installing libraft $candidate"
    if apt_install libraft-dev; then return 0; fi
  fi
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
  say "installing libraft $raft_version_min from $codename-backports"
  if side_sources backports deb "$codename" "$codename-backports" &&
    logged side_apt backports install -y --no-install-recommends -t "$codename-backports" libraft-dev; then
    return 0
  fi
  build_raft_from_source || die "libraft $raft_version_min is neither in $codename-backports nor could it be built; see $log_file"
}

build_raft_from_source() {
  say "no packaged libraft $raft_version_min: building Debian's source package raft"
  apt_install autoconf automake libtool || return 1
  local work=$deps_dir/src/raft version
  version=$(fetch_source raft "$work") || return 1
  dpkg --compare-versions "$version" ge "$raft_version_min" || return 1
  (
    cd "$work/tree"
    logged autoreconf -i &&
      logged ./configure --disable-example --disable-shared --prefix="$raft_prefix" --libdir="$raft_prefix/lib" &&
      logged make -j"$(nproc)" libraft.la &&
      logged make install-libLTLIBRARIES install-data
  )
}

install_fuse() {
  [[ -e $fuse_prefix/lib/libfuse3.a ]] && return 0
  say "building libfuse (>= $fuse_version_min) from Debian's source package fuse3"
  if build_fuse_from_source; then
    rm -f "$deps_dir/fuse3.unavailable"
    return 0
  fi
  warn "libfuse $fuse_version_min could not be built (see $log_file): falling back to the distribution's libfuse3," \
    "without passthrough, FUSE over io_uring and epoch invalidation"
  install_packages libfuse3-dev
  touch "$deps_dir/fuse3.unavailable"
}

build_fuse_from_source() {
  local work=$deps_dir/src/fuse3 version
  version=$(fetch_source fuse3 "$work") || return 1
  dpkg --compare-versions "$version" ge "$fuse_version_min" || {
    echo "fuse3 $version is too old" >>"$log_file"
    return 1
  }
  rm -rf "$fuse_prefix"
  logged meson setup "$work/build" "$work/tree" --buildtype=release --prefix="$fuse_prefix" --libdir=lib \
    --default-library=static -Dexamples=false -Dtests=false -Dutils=false -Duseroot=false -Dinitscriptdir= &&
    logged ninja -C "$work/build" install &&
    say "libfuse $version is in $fuse_prefix"
}

main() {
  wanted=("${packages[@]}")
  case "${1:-}" in
    '') ;;
    --lint) wanted+=("${lint_packages[@]}") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  nothing_missing && return 0
  command -v apt-get >/dev/null || die "this script knows Debian only (12 is the reference); apt-get is not here"
  mkdir -p "$deps_dir"
  exec 9>"$deps_dir/setup.lock"
  flock 9
  : >"$log_file"
  install_packages "${wanted[@]}"
  install_raft
  install_fuse
  stamp_text >"$stamp_file"
  say "set-up is complete"
}

main "$@"
