#!/usr/bin/env python3
"""Rates of the metadata servers for sessions of the client library; see --help.

Starts a cluster of its own for each number of metadata servers and runs tarn-bench-sessions with each number of sessions. Beside it stands what
the same disk gives to programs that sync one block after another, alone and as many at once as there are servers: a create is on stable storage of
a majority before it is answered, so that with one session its rate is bounded by this.

With --readers, sessions that all look up the files of one directory instead, without and with caches: what it costs the server to remember who
caches what.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from programs import add_bin, run

PHASES = ("create", "stat", "ls", "rename", "unlink")


def syncs_per_second(directory, writers, seconds=2.0):
    """Blocks of 4 KiB written and synced one after another, into a file that is already written, by each of some threads."""
    counts = [0] * writers
    block = os.urandom(4096)
    files = []
    for number in range(writers):
        file = os.open(f"{directory}/sync-{number}", os.O_RDWR | os.O_CREAT)
        os.write(file, bytes(4 << 20))
        os.fsync(file)
        files.append(file)
    deadline = time.monotonic() + seconds

    def work(number):
        while time.monotonic() < deadline:
            os.pwrite(files[number], block, counts[number] % 1024 * 4096)
            os.fdatasync(files[number])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, file in enumerate(files):
        os.close(file)
        os.unlink(f"{directory}/sync-{number}")
    return sum(counts) / seconds / writers


def measure_cluster(arguments, metaservers, top):
    directory = f"{top}/cluster-{metaservers}"
    tarn = f"{arguments.bin}/tarn"
    up = json.loads(run([tarn, "dev", "up", "--dir", directory, "--metaservers", str(metaservers), "--chunkservers", "1", "--json"]))
    addresses = ",".join(server["address"] for server in up["servers"] if server["name"].startswith("metaserver"))
    rows = []
    try:
        for sessions in arguments.sessions:
            files = max(200, arguments.operations // sessions)
            syncs = syncs_per_second(top, metaservers)
            output = run([f"{arguments.bin}/tarn-bench-sessions", "--meta", addresses, "--sessions", str(sessions),
                          "--files-per-session", str(files), "--prefix", f"run-{sessions}"])
            row = {"metaservers": metaservers, "sessions": sessions, "syncs_per_second": syncs}
            for line in output.splitlines():
                phase = json.loads(line)
                row[phase["phase"]] = phase["operations_per_second"]
            rows.append(row)
            if not arguments.json:
                print_row(row)
    finally:
        run([tarn, "dev", "down", "--dir", directory])
    return rows


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look_ups(arguments, server, work, sessions, files):
    """Rates of the phases, and the server's CPU time for a look-up of the first one, in microseconds."""
    command = [f"{arguments.bin}/tarn-bench-sessions", "--meta", server["address"], "--sessions", str(sessions), "--work", work,
               "--files-per-session", str(files), "--prefix", f"{work}-{sessions}"]
    rates, cpu = {}, {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        for line in program.stdout:
            phase = json.loads(line)
            cpu[phase["phase"]] = cpu_seconds(server["pid"])
            rates[phase["phase"]] = phase["operations_per_second"]
    if program.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {program.returncode}")
    return rates, (cpu["first"] - cpu["open"]) / (sessions * files) * 1e6


def measure_readers(arguments, top):
    directory = f"{top}/readers"
    tarn = f"{arguments.bin}/tarn"
    up = json.loads(run([tarn, "dev", "up", "--dir", directory, "--chunkservers", "1", "--json"]))
    server = next(server for server in up["servers"] if server["name"].startswith("metaserver"))
    rows = []
    try:
        for sessions in arguments.sessions:
            files = min(2000, max(10, arguments.operations // sessions))
            plain, plain_us = look_ups(arguments, server, "readers", sessions, files)
            caching, caching_us = look_ups(arguments, server, "caching-readers", sessions, files)
            rows.append({"sessions": sessions, "files": files, "plain": plain, "plain_cpu_us": plain_us, "caching": caching,
                         "caching_cpu_us": caching_us})
            if not arguments.json:
                cells = (sessions, files, f"{plain['first']:.0f}", f"{caching['first']:.0f}", f"{plain_us:.1f}", f"{caching_us:.1f}",
                         f"{caching_us / plain_us:.2f}", f"{caching['again']:.0f}")
                print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    finally:
        run([tarn, "dev", "down", "--dir", directory])
    return rows


def print_row(row):
    cells = [str(row["metaservers"]), str(row["sessions"]), f"{row['syncs_per_second']:.0f}"] + [f"{row[phase]:.0f}" for phase in PHASES]
    cells.append(f"{row['create'] / row['syncs_per_second']:.1f}")
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_bin(parser)
    parser.add_argument("--dir", default=None, help="where the clusters are made (a temporary directory)")
    parser.add_argument("--metaservers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--operations", type=int, default=30_000, help="of each kind and run, of all sessions together")
    parser.add_argument("--readers", action="store_true", help="sessions that read one directory, over one metadata server")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json and arguments.readers:
        print("| sessions | files | look-ups/s | look-ups/s, caching | server's CPU for one, us | the same, caching | ratio | again, from memory, /s |")
        print("|" + "---|" * 8)
    elif not arguments.json:
        print("| metadata servers | sessions | syncs/s of the disk | " + " | ".join(f"{phase}/s" for phase in PHASES) + " | creates per sync |")
        print("|" + "---|" * (4 + len(PHASES)))
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="tarn-bench-") as top:
        if arguments.readers:
            rows = measure_readers(arguments, top)
        for metaservers in arguments.metaservers if not arguments.readers else ():
            rows += measure_cluster(arguments, metaservers, top)
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
