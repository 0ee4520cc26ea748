#!/usr/bin/env python3
"""What copies cost and what they give; see --help.

Starts clusters of its own on this machine, so that all copies share its disks and processors: the ratios between factors are an upper bound of the
price. Prints one JSON object per measurement:

  write       MB/s into one large file, closed with fsync, and files of 112 KiB per second with `tarn put`, for 1, 2 and 3 copies
  read        MB/s of shuffled files with the kernel's cache dropped, for 1 and 3 copies
  read-stall  the pauses of readers when the server they read from is killed (one sample for each reader and kill)
  write-stall likewise of fsynced writes, when any server is killed
  elastic     bytes that several fresh mounts, one after the other, read from two durable servers, without and with elastic ones beside them; what share of the
              elastic targets' reads were hits
  re-protect  one of four servers is lost for good: bytes copied per second until everything has two copies again, and what a reader gets meanwhile
"""

import argparse
import json
import os
import random
import shutil
import sys
import threading
import time

from programs import add_bin

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "integration"))

MIB = 1 << 20
SMALL_BYTES = 112 << 10


def say(**values):
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}), flush=True)


def write_large(path, megabytes):
    block = random.Random(1).randbytes(MIB)
    began = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for _ in range(megabytes):
            file.write(block)
        os.fsync(file.fileno())
    return megabytes * MIB / (time.monotonic() - began) / 1e6


def make_small(folder, files):
    os.makedirs(folder)
    chooser = random.Random(2)
    for number in range(files):
        with open(f"{folder}/file-{number}", "wb") as file:
            file.write(chooser.randbytes(SMALL_BYTES))


class Reader(threading.Thread):
    """Reads files in shuffled order past the kernel's cache; remembers when each read began and how long it took."""

    def __init__(self, folder, number):
        super().__init__(daemon=True)
        self.paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        self.chooser = random.Random(number)
        self.stopping = threading.Event()
        self.samples = []  # (began, seconds)
        self.bytes = 0

    def run(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            descriptor = os.open(self.chooser.choice(self.paths), os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            while part := os.read(descriptor, MIB):
                self.bytes += len(part)
            os.close(descriptor)
            self.samples.append((began, time.monotonic() - began))


class Writer(threading.Thread):
    def __init__(self, folder, number):
        super().__init__(daemon=True)
        self.path = f"{folder}/writer-{number}"
        self.stopping = threading.Event()
        self.samples = []

    def run(self):
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)
        block = os.urandom(4096)
        number = 0
        while not self.stopping.is_set():
            began = time.monotonic()
            os.pwrite(descriptor, block, number % 4096 * 4096)
            os.fsync(descriptor)
            self.samples.append((began, time.monotonic() - began))
            number += 1
        os.close(descriptor)


def longest_around(samples, moment, seconds):
    """The longest operation that was under way at the moment or began within the time after it."""
    return max((took for began, took in samples if began + took >= moment and began <= moment + seconds), default=0.0)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def read_rate(folder, seconds, threads=4):
    readers = [Reader(folder, number) for number in range(threads)]
    began = time.monotonic()
    for reader in readers:
        reader.start()
    time.sleep(seconds)
    for reader in readers:
        reader.stopping.set()
    for reader in readers:
        reader.join()
    return sum(reader.bytes for reader in readers) / (time.monotonic() - began) / 1e6


def throughput(harness, arguments):
    first = {}
    for replicas in (1, 2, 3):
        with harness.Cluster(chunkservers=3, replicas=replicas) as cluster:
            make_small(f"{cluster.top}/source", arguments.files)
            write_large(f"{cluster.mount_point}/warm-up", 32)
            large = write_large(f"{cluster.mount_point}/large", arguments.megabytes)
            put = cluster.tarn_json("put", f"{cluster.top}/source/", "default:/small")
            cluster.remount()
            read = read_rate(f"{cluster.mount_point}/small", arguments.seconds)
            row = {"write_mb_per_s": large, "put_files_per_s": put["files_per_second"], "read_mb_per_s": read}
            first = first or row
            say(measurement="throughput", replicas=replicas, **row, **{f"{key}_ratio": value / first[key] for key, value in row.items()})


def stalls(harness, arguments):
    with harness.Cluster(chunkservers=3, replicas=2) as cluster:
        make_small(f"{cluster.mount_point}/small", arguments.files)
        readers = [Reader(f"{cluster.mount_point}/small", number) for number in range(4)]
        writers = [Writer(cluster.mount_point, number) for number in range(2)]
        for thread in readers + writers:
            thread.start()
        read_stalls, write_stalls = [], []
        for number in range(arguments.kills):
            time.sleep(2)
            name = f"chunkserver-{number % 3 + 1}"
            moment = time.monotonic()
            cluster.kill(name)
            time.sleep(8)
            read_stalls += [longest_around(reader.samples, moment, 8) for reader in readers]
            write_stalls += [longest_around(writer.samples, moment, 8) for writer in writers]
            cluster.start(name)
            cluster.wait_for_health()
        for thread in readers + writers:
            thread.stopping.set()
        for thread in readers + writers:
            thread.join()
        for kind, values in (("read-stall", read_stalls), ("write-stall", write_stalls)):
            say(measurement=kind, samples=len(values), p50_s=percentile(values, 0.5), p99_s=percentile(values, 0.99), longest_s=max(values))


def re_protect(harness, arguments):
    with harness.Cluster(chunkservers=4, replicas=2, metaserver_options=("--replace-delay-ms", "1000")) as cluster:
        for number in range(max(1, arguments.megabytes // 256)):
            write_large(f"{cluster.mount_point}/large-{number}", 256)
        make_small(f"{cluster.mount_point}/small", arguments.files)
        quiet = read_rate(f"{cluster.mount_point}/small", arguments.seconds)
        status = cluster.tarn_json("status")
        lost = next(row for row in status["chunkservers"] if row["node"] == cluster.node_of("chunkserver-1"))["used_bytes"]
        cluster.kill("chunkserver-1")
        shutil.rmtree(f"{cluster.directory}/chunkserver-1")
        node = cluster.node_of("chunkserver-1")
        harness.wait_for(lambda: cluster.tarn_json("status")["repair"]["groups_degraded"], 60, "the loss is noticed")
        began = time.monotonic()

        def whole():
            row = next(row for row in cluster.tarn_json("node", "list") if row["node"] == node)
            return row["placement_groups"] == 0 and cluster.tarn_json("status")["repair"]["groups_degraded"] == 0

        ended = []
        watcher = threading.Thread(target=lambda: (harness.wait_for(whole, 600, "two copies of everything"), ended.append(time.monotonic())))
        watcher.start()
        busy = read_rate(f"{cluster.mount_point}/small", arguments.seconds)
        watcher.join()
        seconds = ended[0] - began
        cluster.forget_chunkserver("chunkserver-1")
        say(measurement="re-protect", lost_bytes=lost, seconds=seconds, mb_per_s=lost / seconds / 1e6, read_mb_per_s_before=quiet, read_mb_per_s_meanwhile=busy,
            read_ratio=busy / quiet)


def elastic(harness, arguments):
    without = None
    for servers in (0, 4):
        with harness.Cluster(chunkservers=2, replicas=2, elastic_chunkservers=servers) as cluster:
            folder = f"{cluster.mount_point}/small"
            make_small(folder, arguments.files)
            run_bytes = SMALL_BYTES * arguments.files
            time.sleep(3)  # what is kept of the writing is settled, and counters of it are in the heartbeats

            def rows(wanted):
                return [row for row in cluster.tarn_json("status")["chunkservers"] if row["class"] == wanted]

            before = sum(row["bytes_read"] for row in rows("durable"))
            rates = []
            for _ in range(arguments.mounts):
                cluster.remount()
                began = time.monotonic()
                for name in sorted(os.listdir(folder)):
                    with open(os.path.join(folder, name), "rb", buffering=0) as file:
                        file.readall()
                rates.append(run_bytes / (time.monotonic() - began) / 1e6)
            time.sleep(3)
            from_durable = sum(row["bytes_read"] for row in rows("durable")) - before
            without = without or from_durable
            uses = [row["elastic"] for row in rows("elastic")]
            reads = sum(use["hits"] + use["misses"] for use in uses)
            say(measurement="elastic", elastic_servers=servers, mounts=arguments.mounts, bytes_read=run_bytes * arguments.mounts, bytes_from_durable=from_durable,
                from_durable_ratio=from_durable / without, hit_rate=sum(use["hits"] for use in uses) / reads if reads else 0.0,
                refusals=sum(use["refusals"] for use in uses), read_mb_per_s_first=rates[0], read_mb_per_s_last=rates[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", nargs="*", default=["throughput", "stalls", "elastic", "re-protect"], help="throughput, stalls, elastic, re-protect (all)")
    add_bin(parser)
    parser.add_argument("--files", type=int, default=2000, help="small files")
    parser.add_argument("--megabytes", type=int, default=1024, help="of large files")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each reading")
    parser.add_argument("--mounts", type=int, default=6, help="of the measurement `elastic`")
    parser.add_argument("--kills", type=int, default=9)
    arguments = parser.parse_args()
    os.environ["TARN_BIN"] = arguments.bin
    import harness  # pylint: disable=import-outside-toplevel # reads TARN_BIN

    harness.need_root_and_fuse()
    actions = {"throughput": throughput, "stalls": stalls, "elastic": elastic, "re-protect": re_protect}
    for name in arguments.measurements:
        if name not in actions:
            parser.error(f"{name}: none of {', '.join(actions)}")
        actions[name](harness, arguments)


if __name__ == "__main__":
    main()
