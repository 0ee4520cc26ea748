"""Replicated data under failures: chunk servers killed, stopped, cut off, lost, drained and added while applications read and write.

Each application checks every byte it reads. Nobody may see an error, only pauses.
"""

import errno
import os
import random
import shutil
import signal
import threading
import time
import unittest

from harness import Cluster, content, drop_caches, need_root_and_fuse, run, wait_for


class Crew:
    """Threads that do the same work (`_run`) until the end of the `with` block."""

    def __init__(self, threads):
        self.errors = []
        self.longest_s = 0.0  # of one operation
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)


class Readers(Crew):
    """Applications that read a dataset in shuffled order, past the kernel's cache, and compare every byte."""

    def __init__(self, top, files=120, threads=3):
        self.folder = os.path.join(top, "dataset")
        self.sizes = {f"sample-{i}": 40_000 + 7_919 * (i % 29) for i in range(files)}
        self.sizes["shard"] = 9_000_000
        self.wanted = {name: content(name, size) for name, size in self.sizes.items()}
        super().__init__(threads)
        self.reads = 0

    def make(self):
        os.mkdir(self.folder)
        for name, data in self.wanted.items():
            with open(os.path.join(self.folder, name), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def _run(self, number):
        chooser = random.Random(number)
        while not self.stopping.is_set():
            name = chooser.choice(sorted(self.wanted))
            began = time.monotonic()
            try:
                self._read(name)
            except (OSError, AssertionError) as error:
                self.errors.append(f"{name}: {error} after {time.monotonic() - began:.2f} s")
                return
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.reads += 1

    def _read(self, name):
        descriptor = os.open(os.path.join(self.folder, name), os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            found = bytearray()
            while True:
                part = os.read(descriptor, 1 << 20)
                if not part:
                    break
                found += part
        finally:
            os.close(descriptor)
        if bytes(found) != self.wanted[name]:
            raise AssertionError(f"{len(found)} bytes, not what was written")

    def progress(self, seconds=60):
        goal = self.reads + 30
        wait_for(lambda: self.reads >= goal or self.errors, seconds, "the readers go on")


class Overwriters(Crew):
    """Applications that write at random places of files of their own, with fsync now and then, and know what must be there.

    Bytes whose fsync was acknowledged must stay; the others may be either, but every byte is one that was once written there.
    """

    FILE_BYTES = 3_000_000

    def __init__(self, top, threads=2):
        self.paths = [os.path.join(top, f"scratch-{i}") for i in range(threads)]
        self.images = [bytearray(self.FILE_BYTES) for _ in range(threads)]
        super().__init__(threads)
        self.syncs = 0

    def _run(self, number):
        chooser = random.Random(1_000 + number)
        image = self.images[number]
        try:
            descriptor = os.open(self.paths[number], os.O_RDWR | os.O_CREAT)
            try:
                os.ftruncate(descriptor, self.FILE_BYTES)
                while not self.stopping.is_set():
                    for _ in range(chooser.randrange(1, 12)):
                        self._write(descriptor, image, chooser)
                    began = time.monotonic()
                    os.fsync(descriptor)
                    self.longest_s = max(self.longest_s, time.monotonic() - began)
                    self.syncs += 1
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.errors.append(f"{self.paths[number]}: {errno.errorcode.get(error.errno)} {error}")

    def _write(self, descriptor, image, chooser):
        length = chooser.choice((1, 100, 4096, 5000, 65_536, 300_000))
        offset = chooser.randrange(self.FILE_BYTES - length)
        data = chooser.randbytes(length)
        written = os.pwrite(descriptor, data, offset)
        image[offset:offset + written] = data[:written]

    def progress(self, seconds=60):
        goal = self.syncs + 6
        wait_for(lambda: self.syncs >= goal or self.errors, seconds, "the writers go on")

    def differences(self):
        bad = []
        for path, image in zip(self.paths, self.images):
            with open(path, "rb") as file:
                found = file.read()
            if found != bytes(image):
                blocks = [i for i in range(0, len(image), 4096) if found[i:i + 4096] != image[i:i + 4096]]
                bad.append(f"{path}: {len(found)} bytes, {len(blocks)} blocks differ, first {blocks[:3]}")
        return bad


class Load:
    def __init__(self, cluster):
        self.cluster = cluster
        self.readers = Readers(cluster.mount_point)
        self.writers = Overwriters(cluster.mount_point)
        self.readers.make()

    def __enter__(self):
        self.readers.__enter__()
        self.writers.__enter__()
        return self

    def __exit__(self, *_):
        self.writers.__exit__()
        self.readers.__exit__()

    def progress(self, seconds=60):
        self.readers.progress(seconds)
        self.writers.progress(seconds)

    def verify(self, test):
        """After the load has ended: no error was seen, and every byte is there for a client that remembers nothing."""
        test.assertEqual([], self.readers.errors + self.writers.errors)
        test.assertFalse(any(t.is_alive() for t in self.readers.threads + self.writers.threads), "an application hangs")
        self.cluster.remount()
        test.assertEqual([], self.writers.differences())
        for name in self.readers.wanted:
            self.readers._read(name)
        print(f"{test.id().rsplit('.', 1)[1]}: {self.readers.reads} files read, longest {self.readers.longest_s:.2f} s; "
              f"{self.writers.syncs} fsyncs, longest {self.writers.longest_s:.2f} s", flush=True)


# So that a lost copy is made elsewhere while a test waits.
QUICK = ("--replace-delay-ms", "2000")


class ReplicationTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_each_server_is_killed_and_comes_back(self):
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load:
                load.progress()
                for name in cluster.names("chunkserver"):
                    cluster.kill(name)
                    load.progress()
                    cluster.start(name)
                    cluster.wait_for_health()
                    load.progress()
            load.verify(self)

    def test_each_server_is_stopped_and_goes_on(self):
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load:
                load.progress()
                for name in cluster.names("chunkserver"):
                    cluster.kill(name, signal.SIGSTOP)
                    try:
                        load.progress()
                        load.progress()
                    finally:
                        cluster.kill(name, signal.SIGCONT)
                    cluster.wait_for_health()
                    load.progress()
            load.verify(self)

    def test_a_lost_server_is_replaced(self):
        with Cluster(chunkservers=4, replicas=2, metaserver_options=QUICK) as cluster:
            with Load(cluster) as load:
                load.progress()
                for name in ("chunkserver-1", "chunkserver-3"):
                    node = cluster.node_of(name)
                    cluster.kill(name)
                    shutil.rmtree(f"{cluster.directory}/{name}")
                    cluster.forget_chunkserver(name)
                    # All copies are made anew before the next one goes.
                    wait_for(lambda: nothing_is_left_on(cluster, node), 180, f"all copies of {node} made anew")
                    load.progress()
            load.verify(self)

    def test_two_of_three_copies_are_lost_at_once(self):
        with Cluster(chunkservers=3, replicas=3) as cluster:
            with Load(cluster) as load:
                load.progress()
                cluster.kill("chunkserver-1")
                cluster.kill("chunkserver-2")
                # One copy is left: it is read, and nothing new is acknowledged.
                load.readers.progress()
                cluster.start("chunkserver-1")
                load.progress(120)
                cluster.start("chunkserver-2")
                cluster.wait_for_health()
                load.progress()
            load.verify(self)

    def test_a_node_is_drained_and_taken_back(self):
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load:
                load.progress()
                node = cluster.node_of("chunkserver-2")
                cluster.tarn("node", "drain", node, "--wait", timeout=300)
                row = next(row for row in cluster.tarn_json("node", "list") if row["node"] == node)
                self.assertEqual(0, row["placement_groups"])
                cluster.kill("chunkserver-2", signal.SIGTERM)
                load.progress()
                cluster.start("chunkserver-2")
                cluster.tarn("node", "uncordon", node)
                cluster.wait_for_health()
                load.progress()
                # What is left could not hold two copies on two nodes.
                cluster.tarn("node", "drain", cluster.node_of("chunkserver-1"), "--wait", timeout=300)
                refused = cluster.tarn("node", "drain", cluster.node_of("chunkserver-3"), check=False)
                self.assertEqual(1, refused.returncode)
            load.verify(self)

    def test_a_cluster_grows_and_shrinks(self):
        with Cluster(chunkservers=3, replicas=2, metaserver_options=QUICK) as cluster:
            old = cluster.names("chunkserver")
            with Load(cluster) as load:
                load.progress()
                new = [cluster.add_chunkserver() for _ in range(3)]
                cluster.wait_for_health()
                load.progress()
                cluster.kill_and_restart(new[0])
                cluster.wait_for_health()
                for name in old:
                    cluster.tarn("node", "drain", cluster.node_of(name), "--wait", timeout=300)
                    cluster.kill(name, signal.SIGTERM)
                    shutil.rmtree(f"{cluster.directory}/{name}")
                    cluster.forget_chunkserver(name)
                    load.progress()
                cluster.kill_and_restart(new[1])
                load.progress()
            load.verify(self)

    def test_flipped_bytes_are_repaired(self):
        with Cluster(chunkservers=3, replicas=2) as cluster:
            load = Load(cluster)
            cluster.down()
            spoiled = self.flip_bytes(f"{cluster.directory}/chunkserver-1/segments", 40)
            self.assertGreater(spoiled, 0)
            cluster.up()
            cluster.tarn("scrub", "start")

            def repaired():
                rows = cluster.tarn_json("scrub", "status")
                return all(row["last_round_ended_ns"] for row in rows) and sum(row["errors_found"] for row in rows) == sum(row["errors_repaired"] for row in rows) > 0

            wait_for(repaired, 180, "every damaged block found and repaired")
            drop_caches()
            # The other copies may go now.
            for name in load.readers.wanted:
                load.readers._read(name)

    @staticmethod
    def flip_bytes(folder, count):
        chooser = random.Random(7)
        done = 0
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            with open(path, "r+b") as file:
                size = os.fstat(file.fileno()).st_size
                for _ in range(count * 40):
                    position = chooser.randrange(4096, size)
                    file.seek(position)
                    byte = file.read(1)
                    # Only where data lies: the rest is preallocated zeros.
                    if byte in (b"", b"\0"):
                        continue
                    file.seek(position)
                    file.write(bytes([byte[0] ^ 0x55]))
                    done += 1
                    if done >= count:
                        return done
        return done


def nothing_is_left_on(cluster, node):
    row = next(row for row in cluster.tarn_json("node", "list") if row["node"] == node)
    return row["placement_groups"] == 0 and cluster.tarn_json("status")["repair"]["groups_degraded"] == 0


if __name__ == "__main__":
    unittest.main()
