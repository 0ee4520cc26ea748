"""Elastic chunk servers: extra copies for readers on servers that vanish all at once and come back empty (docs/elastic.md).

Two durable servers hold everything. Readers on two mounts, one of them made anew again and again, compare every byte; a writer changes some of the
files in place. Nobody may see an error or a byte that is older than the last write that had returned, and the cluster stays healthy.
"""

import os
import random
import threading
import time
import unittest

from harness import Cluster, content, drop_caches, need_root_and_fuse, run, wait_for

ELASTIC = 4


def rows(cluster, wanted):
    return [row for row in cluster.tarn_json("status")["chunkservers"] if row["class"] == wanted]


def use(cluster):
    """The counters of all elastic targets together."""
    total = {}
    for row in rows(cluster, "elastic"):
        for key, value in row["elastic"].items():
            total[key] = total.get(key, 0) + value
    return total


def read_file(path):
    """All of it, not from the kernel's cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        found = bytearray()
        while part := os.read(descriptor, 1 << 20):
            found += part
        return bytes(found)
    finally:
        os.close(descriptor)


class Files:
    """Files and what they must hold now. Who changes or checks one holds its lock, so that a reader's read begins after the write returned."""

    def __init__(self, folder, sizes):
        self.folder = folder
        self.wanted = {name: bytearray(content(name, size)) for name, size in sizes.items()}
        self.locks = {name: threading.Lock() for name in sizes}
        self.errors = []
        self.reads = 0
        self.writes = 0
        self.stopping = threading.Event()

    def make(self, top):
        os.mkdir(os.path.join(top, self.folder))
        for name, data in self.wanted.items():
            with open(os.path.join(top, self.folder, name), "wb") as file:
                file.write(data)

    def check(self, top, name):
        with self.locks[name]:
            found = read_file(os.path.join(top, self.folder, name))
            if found != bytes(self.wanted[name]):
                bad = [i for i in range(0, len(found), 4096) if found[i:i + 4096] != bytes(self.wanted[name][i:i + 4096])]
                raise AssertionError(f"{name}: {len(found)} of {len(self.wanted[name])} bytes, {len(bad)} blocks differ, first {bad[:3]}")
        self.reads += 1

    def change(self, top, name, chooser):
        """In place, or shorter and longer again; closed, so it is what everybody must see."""
        with self.locks[name]:
            image = self.wanted[name]
            descriptor = os.open(os.path.join(top, self.folder, name), os.O_RDWR)
            try:
                for _ in range(chooser.randrange(1, 4)):
                    length = chooser.choice((1, 4096, 5000, 70_000))
                    offset = chooser.randrange(max(1, len(image) - length))
                    data = chooser.randbytes(min(length, len(image) - offset))
                    os.pwrite(descriptor, data, offset)
                    image[offset:offset + len(data)] = data
                if chooser.random() < 0.2:
                    size = chooser.randrange(10_000, len(image))
                    os.ftruncate(descriptor, size)
                    tail = chooser.randbytes(chooser.randrange(1, 60_000))
                    os.pwrite(descriptor, tail, size)
                    image[size:] = tail
            finally:
                os.close(descriptor)
        self.writes += 1

    def run(self, work):
        def loop():
            try:
                while not self.stopping.is_set():
                    work()
            except (OSError, AssertionError) as error:
                self.errors.append(repr(error))

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        return thread


class ElasticTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_all_elastic_servers_vanish_and_come_back_empty(self):
        sizes = {f"sample-{i}": 30_000 + 7_919 * (i % 23) for i in range(60)} | {"shard": 6_000_000}
        changing = {f"changing-{i}": 150_000 + 50_000 * i for i in range(6)} | {"changing-shard": 2_500_000}
        with Cluster(chunkservers=2, replicas=2, elastic_chunkservers=ELASTIC) as cluster:
            files = Files("dataset", sizes | changing)
            files.make(cluster.mount_point)
            second = cluster.second_mount()
            names = sorted(files.wanted)
            chooser = random.Random(1)
            remounting = threading.Lock()

            def read_second():
                with remounting:
                    files.check(second, random.choice(names))

            def remount_second():
                time.sleep(1.0)
                with remounting:
                    run(["umount", second])
                    drop_caches()
                    cluster.tarn("mount", "default", second)

            threads = [files.run(lambda: files.check(cluster.mount_point, random.choice(names))),
                       files.run(lambda: files.change(cluster.mount_point, chooser.choice(sorted(changing)), chooser)),
                       files.run(read_second), files.run(read_second), files.run(remount_second)]

            def progress():
                reads, writes = files.reads + 60, files.writes + 10
                wait_for(lambda: (files.reads >= reads and files.writes >= writes) or files.errors, 120, "readers and the writer go on")
                self.assertEqual([], files.errors)

            def hits_rise(what):
                before = use(cluster)["hits"]
                wait_for(lambda: use(cluster)["hits"] > before + 20 or files.errors, 120, what)
                self.assertEqual([], files.errors)

            progress()
            hits_rise("elastic targets serve reads")
            for _ in range(2):
                for name in cluster.names("elastic"):
                    for pid in self.pids(cluster, name):
                        os.kill(pid, 9)
                progress()
                wait_for(lambda: all(row["state"] == "offline" for row in rows(cluster, "elastic")) or files.errors, 60, "the loss is noticed")
                self.assertEqual("ok", cluster.tarn_json("status")["health"])
                progress()
                for name in cluster.names("elastic"):
                    wait_for(lambda: not self.pids(cluster, name), 30, f"the end of {name}")
                    cluster.start(name)
                wait_for(lambda: sum(row["state"] == "online" for row in rows(cluster, "elastic")) == ELASTIC, 60, "they are back")
                self.assertEqual(ELASTIC, len(rows(cluster, "elastic")), "a server that came back takes the place of the one that was there")
                hits_rise("they serve again")
                progress()
            files.stopping.set()
            for thread in threads:
                thread.join(120)
            self.assertEqual([], files.errors)
            self.assertEqual("ok", cluster.tarn_json("status")["health"])
            total = use(cluster)
            self.assertEqual(0, total["bad_units"])
            print(f"{files.reads} reads, {files.writes} writes; since the last return {total['hits']} hits, {total['misses']} misses, "
                  f"{total['refusals']} refusals", flush=True)

    @staticmethod
    def pids(cluster, name):
        from harness import pids_of, has_ended  # pylint: disable=import-outside-toplevel

        return [pid for pid in pids_of(cluster.command(name)) if not has_ended(pid)]

    def test_durable_servers_are_unloaded(self):
        with Cluster(chunkservers=2, replicas=2, elastic_chunkservers=2) as cluster:
            files = Files("dataset", {f"sample-{i}": 112_000 for i in range(100)} | {"shard": 10_000_000})
            files.make(cluster.mount_point)
            total = sum(len(data) for data in files.wanted.values())
            read = []
            for _ in range(3):
                cluster.remount()
                time.sleep(2.5)  # heartbeats, with the counters
                before = sum(row["bytes_read"] for row in rows(cluster, "durable"))
                for name in files.wanted:
                    files.check(cluster.mount_point, name)
                time.sleep(2.5)
                read.append(sum(row["bytes_read"] for row in rows(cluster, "durable")) - before)
            print(f"of {total} bytes read by each of three mounts, durable servers sent {read}", flush=True)
            self.assertLess(read[0], total * 1.6, "each byte is fetched about once")
            self.assertLess(read[1], total * 0.1)
            self.assertLess(read[2], total * 0.1)
            for row in rows(cluster, "durable"):
                self.assertNotIn("elastic", row)

    def test_what_two_clients_write_is_not_kept(self):
        with Cluster(chunkservers=2, replicas=2, elastic_chunkservers=2) as cluster:
            second = cluster.second_mount()
            size = 300_000
            path, other = os.path.join(cluster.mount_point, "shared"), os.path.join(second, "shared")
            with open(path, "wb") as file:
                file.write(content("shared", size))
            image = bytearray(content("shared", size))
            writers = [os.open(path, os.O_RDWR), os.open(other, os.O_RDWR)]
            chooser = random.Random(3)
            for number in range(40):
                descriptor, reader = writers[number % 2], writers[(number + 1) % 2]
                data = chooser.randbytes(4096)
                offset = chooser.randrange(size - 4096)
                os.pwrite(descriptor, data, offset)
                image[offset:offset + 4096] = data
                self.assertEqual(bytes(image), os.pread(reader, size, 0), f"after write {number}")
                if number == 3:
                    time.sleep(2)
                    before = use(cluster)
            time.sleep(2)
            after = use(cluster)
            self.assertEqual(before["hits"] + before["misses"], after["hits"] + after["misses"], "nobody asked an elastic target")
            for descriptor in writers:
                os.close(descriptor)
            # Once one client alone has written and closed it, it is kept again.
            with open(path, "r+b") as file:
                file.write(b"x")
            image[0:1] = b"x"
            cluster.remount()
            self.assertEqual(bytes(image), read_file(path))
            wait_for(lambda: use(cluster)["misses"] > after["misses"], 30, "it is kept again")


if __name__ == "__main__":
    unittest.main()
