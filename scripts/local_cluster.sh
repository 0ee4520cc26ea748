# shellcheck shell=bash
# Sourced by quickstart.sh and by CI: finds, stops and detaches what a local cluster under a directory has running.
# A process belongs to it when its program lies in BIN_DIR and its command line names something below ROOT_DIR.

# cluster_pids BIN_DIR ROOT_DIR: one process id a line.
cluster_pids() {
  local bin_dir=$1 root_dir=$2 directory pid program
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    program=$(readlink "$directory/exe" 2>/dev/null) || continue
    program=${program% (deleted)}
    [[ $program == "$bin_dir"/* ]] || continue
    if tr '\0' '\n' <"$directory/cmdline" 2>/dev/null | grep -qF -- "$root_dir/"; then
      echo "$pid"
    fi
  done
}

# kill_cluster SIGNAL BIN_DIR ROOT_DIR: sends the signal, and SIGKILL to what is still there ten seconds later.
kill_cluster() {
  local signal=$1 attempt pids
  shift
  mapfile -t pids < <(cluster_pids "$@")
  [[ ${#pids[@]} -gt 0 ]] || return 0
  kill -s "$signal" "${pids[@]}" 2>/dev/null || true
  for ((attempt = 0; attempt < 100; attempt++)); do
    mapfile -t pids < <(cluster_pids "$@")
    [[ ${#pids[@]} -gt 0 ]] || return 0
    sleep 0.1
  done
  kill -s KILL "${pids[@]}" 2>/dev/null || true
}

# mounts_below DIR: the mount points below it, the last mounted first.
mounts_below() {
  local point
  # mountinfo writes a blank in a path as \040.
  while read -r point; do
    point=$(printf '%b' "$point")
    [[ $point == "$1"/* ]] && printf '%s\n' "$point"
  done < <(awk '{ print $5 }' /proc/self/mountinfo | tac) || true
}

# detach_mounts DIR: takes away every mount below DIR, also one whose server is dead or hangs. Always ends.
detach_mounts() {
  local point
  while read -r point; do
    [[ -n $point ]] || continue
    # First of all, since nothing can be killed that waits for a server which hangs, not even umount.
    mount_answers "$point" || abort_fuse_connection "$(mount_minor "$point")"
    umount "$point" 2>/dev/null || fusermount3 -u "$point" 2>/dev/null || {
      abort_fuse_connection "$(mount_minor "$point")"
      umount -l "$point" 2>/dev/null || fusermount3 -uz "$point" 2>/dev/null || true
    }
  done < <(mounts_below "$1")
}

# mount_answers POINT: whether the mount's server answers (with an error, perhaps) within three seconds.
mount_answers() {
  local attempt pid
  stat --file-system "$1" >/dev/null 2>&1 &
  pid=$!
  for ((attempt = 0; attempt < 30; attempt++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

# mount_minor POINT: the minor device number of the last mount there, which is also its FUSE connection's name.
mount_minor() {
  # Through the environment, since awk -v would turn mountinfo's \040 (a blank) into a blank again.
  point=${1// /\\040} awk '$5 == ENVIRON["point"] { split($3, id, ":"); minor = id[2] } END { print minor }' /proc/self/mountinfo
}

# abort_fuse_connection MINOR: the kernel answers every waiting request with an error, so that nothing hangs.
abort_fuse_connection() {
  local control=/sys/fs/fuse/connections
  if [[ -n $1 && -e $control ]]; then
    mountpoint -q "$control" || mount -t fusectl fusectl "$control" 2>/dev/null || true
    { echo 1 >"$control/$1/abort"; } 2>/dev/null || true
  fi
}
