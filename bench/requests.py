#!/usr/bin/env python3
"""How much a mount asks the servers for what it has cached: messages that tarn-fuse sends, per operation.

Starts a cluster with two mounts of one volume, reads a directory of files on both, so that another session has an interest in it too, and then
repeats one kind of operation on the first mount for some seconds. The kernel counts the messages (calls of sendmsg; answers to the kernel are written
and not counted), nothing of TarnFS does; this needs perf (the package linux-perf). Beside it stands what the idle mount sent in the same time
(keep-alives).
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from programs import add_bin, run


def pid_of_mount(mount):
    """The process that serves it: its command line names the directory."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == "tarn-fuse" and mount in words:
            return int(pid)
    return sys.exit(f"no tarn-fuse serves {mount}")


class Messages:
    """Counts what a process sends while the with-statement runs."""

    def __init__(self, pid):
        self.command = ["perf", "stat", "-x", ",", "-e", "syscalls:sys_enter_sendmsg", "-p", str(pid)]
        self.sent = 0

    def __enter__(self):
        self.perf = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)  # it has attached by then
        return self

    def __exit__(self, *unused):
        self.perf.send_signal(signal.SIGINT)
        output = self.perf.communicate(timeout=30)[1]
        counted = [line.split(",")[0] for line in output.splitlines() if "sys_enter_sendmsg" in line]
        if len(counted) != 1 or not counted[0].isdigit():
            sys.exit(f"{' '.join(self.command)}: {output.strip()}")
        self.sent = int(counted[0])


def stat(path):
    os.stat(path)


def open_and_close(path):
    os.close(os.open(path, os.O_RDONLY))


def read(path):
    with open(path, "rb", buffering=0) as file:
        file.read()


def measure(name, act, paths, pid, seconds):
    for path in paths:
        act(path)
    operations = 0
    with Messages(pid) as busy:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            act(paths[operations % len(paths)])
            operations += 1
    with Messages(pid) as idle:
        time.sleep(seconds)
    return {"operation": name, "operations": operations, "messages": busy.sent, "messages_idle": idle.sent,
            "messages_per_operation": max(0, busy.sent - idle.sent) / operations}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_bin(parser)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5, help="for each kind of operation")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("perf is not installed (the package linux-perf)")
    tarn = f"{arguments.bin}/tarn"
    rows = []
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as top:
        mounts = [f"{top}/mount-1", f"{top}/mount-2"]
        try:
            run([tarn, "dev", "up", "--dir", f"{top}/cluster", "--chunkservers", "1"])
            for mount in mounts:
                os.mkdir(mount)
                run([tarn, "--dir", f"{top}/cluster", "mount", "default", mount])
            os.mkdir(f"{mounts[0]}/images")
            names = [f"images/{number}.jpg" for number in range(arguments.files)]
            for name in names:
                with open(f"{mounts[0]}/{name}", "wb") as file:
                    file.write(os.urandom(4096))
            for mount in mounts:
                os.listdir(f"{mount}/images")
                for name in names:
                    read(f"{mount}/{name}")
            paths = [f"{mounts[0]}/{name}" for name in names]
            pid = pid_of_mount(mounts[0])
            for name, act, places in (("stat", stat, paths), ("open and close", open_and_close, paths), ("open, read 4 KiB and close", read, paths),
                                      ("list the directory", os.listdir, [f"{mounts[0]}/images"])):
                rows.append(measure(name, act, places, pid, arguments.seconds))
        finally:
            for mount in mounts:
                if os.path.ismount(mount):
                    run([tarn, "umount", mount])
            run([tarn, "dev", "down", "--dir", f"{top}/cluster"])
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| operation | operations | messages sent | messages sent when idle | messages an operation |")
    print("|" + "---|" * 5)
    for row in rows:
        print(f"| {row['operation']} | {row['operations']} | {row['messages']} | {row['messages_idle']} | {row['messages_per_operation']:.5f} |")


if __name__ == "__main__":
    main()
