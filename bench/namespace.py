#!/usr/bin/env python3
"""Memory and disk of a metadata server per million inodes, and the listing of a huge directory; see --help.

Starts a cluster of its own, fills it through the bulk path with files that have no bytes, and prints one JSON object per
step; before and after that the rates of eight sessions; at the end it removes the huge directory. The server runs under --memory-limit: `rss_peak_bytes` (VmHWM) is to stay below it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from programs import add_bin, run


def memory_of(pid):
    values = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(("VmRSS:", "VmHWM:")):
                values[line[:5]] = int(line.split()[1]) * 1024
    return {"rss_bytes": values["VmRSS"], "rss_peak_bytes": values["VmHWM"]}


def disk_of(directory):
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                pass  # compacted away meanwhile
    return total


def wait_until_serving(address, binaries):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = subprocess.run([f"{binaries}/tarn", "volume", "list", "--meta", address], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    sys.exit("the metadata server does not serve")


def list_over_mount(mount_point):
    """The time to the first name and to the last one, and the client's memory, of a plain readdir."""
    start = time.monotonic()
    first = None
    entries = 0
    for _ in os.scandir(mount_point):
        if first is None:
            first = time.monotonic() - start
        entries += 1
    return {"entries": entries, "first_entry_seconds": round(first, 6), "seconds": round(time.monotonic() - start, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_bin(parser)
    parser.add_argument("--millions", type=float, default=1.0, help="files, in steps of a quarter of it")
    parser.add_argument("--memory-limit", default="256m")
    parser.add_argument("--one-directory", type=int, default=1_000_000, help="entries of the huge directory; 0: none")
    parser.add_argument("--mount", action="store_true", help="also list it over a mount (needs root)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as top:
        run([f"{options.bin}/tarn", "dev", "up", "--dir", f"{top}/c", "--chunkservers", "1"])
        config = json.load(open(f"{top}/c/cluster.json"))
        try:
            measure(options, top, config)
        finally:
            subprocess.run(["umount", "-l", f"{top}/mnt"], capture_output=True, check=False)
            run([f"{options.bin}/tarn", "dev", "down", "--dir", f"{top}/c"])


def restart_with_limit(options, config):
    server = next(server for server in config["servers"] if server["name"].startswith("meta"))
    command = [*server["command"]]
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and open(f"/proc/{entry}/cmdline").read().split("\0")[:-1] == command:
                os.kill(int(entry), 15)
                while os.path.exists(f"/proc/{entry}"):
                    time.sleep(0.05)
        except OSError:
            pass
    address = command[command.index("--listen") + 1]
    process = subprocess.Popen([*command, "--memory-limit", options.memory_limit])
    wait_until_serving(address, options.bin)
    return process, address, command[command.index("--dir") + 1]


def rates(options, address, name):
    """Of sessions of the client library, in directories of their own."""
    output = run([f"{options.bin}/tarn-bench-sessions", "--meta", address, "--sessions", "8", "--files-per-session", "1000", "--prefix", name])
    phases = [json.loads(line) for line in output.splitlines()]
    return {"phase": f"rates, {name}", **{phase["phase"]: phase["operations_per_second"] for phase in phases}}


def remove_huge(options, address):
    """The request, and how long it takes until all of the directory's inodes are gone from the volume's count."""
    tarn = [f"{options.bin}/tarn", "--meta", address]
    inodes = lambda: json.loads(run([*tarn, "volume", "info", "default", "--json"]))["used_inodes"]  # noqa: E731
    before, start = inodes(), time.monotonic()
    run([*tarn, "rm", "-r", "default:/huge"])
    answered = time.monotonic() - start
    while inodes() > before - options.one_directory:
        time.sleep(0.1)
    return {"phase": "rm -r", "files": options.one_directory, "request_seconds": round(answered, 3), "reclaimed_seconds": round(time.monotonic() - start, 1)}


def measure(options, top, config):
    process, address, directory = restart_with_limit(options, config)
    try:
        bench = [f"{options.bin}/tarn-bench-namespace", "--meta", address]
        step = int(options.millions * 250_000)
        print(json.dumps(rates(options, address, "empty")), flush=True)
        for i in range(4):
            result = json.loads(run([*bench, "--files", str(step), "--name", f"part{i}"]))
            result.update(memory_of(process.pid), disk_bytes=disk_of(f"{directory}/state"), files_so_far=step * (i + 1))
            print(json.dumps(result), flush=True)
        print(json.dumps(rates(options, address, "filled")), flush=True)
        if options.one_directory:
            count = str(options.one_directory)
            run([*bench, "--files", count, "--files-per-directory", count, "--name", "huge"])
            result = json.loads(run([*bench, "--phase", "list", "--name", "huge"]))
            result.update(memory_of(process.pid))
            print(json.dumps(result), flush=True)
        if options.one_directory and options.mount:
            os.mkdir(f"{top}/mnt")
            run([f"{options.bin}/tarn", "mount", f"default@{address}", f"{top}/mnt"])
            result = {"phase": "list over a mount", **list_over_mount(f"{top}/mnt/huge/d0")}
            client = subprocess.run(["pgrep", "-f", f"tarn-fuse.*{top}/mnt"], capture_output=True, text=True, check=False)
            if client.stdout.split():
                result["client"] = memory_of(int(client.stdout.split()[0]))
            print(json.dumps(result), flush=True)
        if options.one_directory:
            print(json.dumps({**remove_huge(options, address), **memory_of(process.pid)}), flush=True)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
