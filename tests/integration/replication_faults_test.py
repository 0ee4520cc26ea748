"""Replicated data under single faults that are not the death of a server: a full disk, a slow server, lost acknowledgements, disks that give
wrong bytes or none, a server that is restarted while a client does not reach it. (More of machines that are cut off: replication_cuts_test.py.)

No application may read a wrong byte. What else it may see is said by each test.
"""

import errno
import os
import shutil
import threading
import time
import unittest

from cut_cluster import CutCluster, need_namespaces
from harness import Cluster, content, drop_caches, need_root_and_fuse, run, wait_for
import replication_test
from replication_test import Load, Readers


class SmallDisk:
    """A loop-mounted ext4 image under the directory of the first chunk server."""

    def __init__(self, megabytes):
        self.megabytes = megabytes
        self.mounted_at = None

    def prepare(self, cluster):
        image = f"{cluster.top}/image"
        self.mounted_at = f"{cluster.top}/small-disk"
        os.makedirs(self.mounted_at)
        with open(image, "wb") as file:
            file.truncate(self.megabytes << 20)
        run(["mkfs.ext4", "-q", "-m", "0", image])
        run(["mount", "-o", "loop", image, self.mounted_at])
        os.makedirs(cluster.directory)
        os.mkdir(f"{self.mounted_at}/target")
        os.symlink(f"{self.mounted_at}/target", f"{cluster.directory}/chunkserver-1")

    def leave(self, megabytes):
        """Somebody else's file takes all but this."""
        found = os.statvfs(self.mounted_at)
        bytes_taken = found.f_bavail * found.f_frsize - (megabytes << 20)
        if bytes_taken > 0:
            with open(f"{self.mounted_at}/ballast-{megabytes}", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, bytes_taken)

    def close(self):
        """After the cluster's own end, which cannot remove what is mounted."""
        if self.mounted_at:
            run(["umount", "-l", self.mounted_at], check=False)
            shutil.rmtree(os.path.dirname(self.mounted_at), ignore_errors=True)


class Churn(threading.Thread):
    """Drops the page cache again and again, so that reads reach the disks."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()

    def run(self):
        while not self.stopping.wait(0.2):
            drop_caches()


class ReplicationFaultsTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_a_full_member_refuses_early_and_others_go_on(self):
        """ENOSPC for files of groups with the full disk, no member lost, nothing torn, and all is well when there is room."""
        disk = SmallDisk(160)
        try:
            with Cluster(chunkservers=3, replicas=2, prepare=disk.prepare, metaserver_options=("--reclaim-delay-ms", "0")) as cluster:
                written, refused, late = {}, [], []
                # Full before groups begin to move to where there is more room.
                disk.leave(40)
                for number in range(900):
                    path = f"{cluster.mount_point}/file-{number}"
                    data = content(path, 1 << 20)
                    try:
                        self.write(path, data)
                        written[path] = data
                        late += [path] if refused else []
                    except OSError as error:
                        self.assertEqual(errno.ENOSPC, error.errno, str(error))
                        refused.append(path)
                    if len(refused) >= 5 and len(late) >= 3:
                        break
                self.assertGreaterEqual(len(refused), 5, "the disk is not full")
                self.assertGreater(len(late), 0, "groups on other disks go on")
                # What was refused has gone again, and so there may be room.
                disk.leave(14)
                wait_for(lambda: {self.overwrite(path, written) for path in list(written)[:30]} == {True, False}, 60,
                         "some of these files have a copy on the full disk, others have none")
                # It stays in its groups: nothing has fewer copies than before.
                status = cluster.tarn_json("status")
                self.assertEqual(0, status["repair"]["groups_degraded"], status)
                self.assertIn("is full", cluster.logs("chunkserver-1"))
                cluster.remount()
                self.check(written)
                for path in refused + [path for number, path in enumerate(written) if number % 8 != 0]:
                    os.unlink(path)
                    written.pop(path, None)
                # Every group takes writes again.
                wait_for(lambda: self.can_write(cluster, 30), 120, "writes everywhere once there is room")
                # Groups that have moved to where there is more room (the longer all this takes, the more have) take writes before the disk has any:
                # copies that are left behind stay for a minute, and then go a page at a time.
                wait_for(lambda: "has room again" in cluster.logs("chunkserver-1"), 240, "the log tells of the room")
                cluster.remount()
                self.check(written)
        finally:
            disk.close()

    @staticmethod
    def write(path, data):
        with open(path, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    @staticmethod
    def overwrite(path, written):
        """A part of a file. False: refused, and the old bytes are what must be there."""
        data, offset = content(path + " again", 65_536), 300_001
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, offset)
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        finally:
            try:
                os.close(descriptor)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        written[path] = written[path][:offset] + data + written[path][offset + len(data):]
        return True

    def can_write(self, cluster, files):
        try:
            for number in range(files):
                self.write(f"{cluster.mount_point}/again-{number}", b"room" * 1000)
            return True
        except OSError as error:
            self.assertEqual(errno.ENOSPC, error.errno, str(error))
            time.sleep(0.5)
            return False

    def check(self, written):
        for path, data in written.items():
            with open(path, "rb") as file:
                self.assertEqual(data, file.read(), path)

    def test_a_server_that_the_client_does_not_reach_is_restarted(self):
        """Another process has the only copies then: it takes nothing that was meant for the one before."""
        need_namespaces()
        with CutCluster(replicas=1) as cluster, Load(cluster) as load:
            load.progress()
            for server in (1, 2, 3):
                load.readers.longest_s = load.writers.longest_s = 0.0
                cluster.cut(CutCluster.CLIENT, server)
                load.progress()
                cluster.restart_chunkserver(server)
                load.progress()
                load.progress()
                print(f"server {server} is restarted while the client is cut off from it: longest read {load.readers.longest_s:.2f} s, "
                      f"longest fsync {load.writers.longest_s:.2f} s", flush=True)
                self.assertEqual([], load.readers.errors + load.writers.errors)
                self.assertLess(load.readers.longest_s, 15.0)
                self.assertLess(load.writers.longest_s, 15.0)
                cluster.mend(CutCluster.CLIENT, server)
            load.progress()
            load.__exit__()
            load.verify(self)

    def test_a_slow_replica(self):
        """One of three servers takes a hundred times as long for each answer. Readers go elsewhere; what is written stays right."""
        delay_ms = 200
        with Cluster(chunkservers=3, replicas=2) as cluster:
            readers = Readers(cluster.mount_point)
            readers.make()
            healthy = self.p99(cluster, readers)
            cluster.down()
            cluster.edit_config(lambda config: [server["command"].extend(["--allow-faults", "--fault", "service.delay_answer=always", "--fault-delay-ms", str(delay_ms)])
                                                for server in config["servers"] if server["name"] == "chunkserver-1"])
            cluster.up()
            self.p99(cluster, readers, seconds=3)  # what is learned
            slow = self.p99(cluster, readers)
            print(f"p99 of reads: healthy {healthy * 1000:.1f} ms, one server {delay_ms} ms slow {slow * 1000:.1f} ms", flush=True)
            self.assertLess(slow, delay_ms / 2000, "more than one read in a hundred waits for the slow server")
            load = Load.__new__(Load)
            load.cluster, load.readers = cluster, readers
            load.writers = replication_test.Overwriters(cluster.mount_point)
            with load:
                load.progress()
                load.progress()
            load.verify(self)

    @staticmethod
    def p99(cluster, readers, seconds=6):
        took = []
        deadline = time.monotonic() + seconds
        names = sorted(name for name in readers.wanted if name != "shard")
        number = 0
        while time.monotonic() < deadline:
            began = time.monotonic()
            readers._read(names[number * 7 % len(names)])
            took.append(time.monotonic() - began)
            number += 1
        return sorted(took)[int(len(took) * 0.99)]

    def test_acknowledgements_between_replicas_are_lost(self):
        with Cluster(chunkservers=3, replicas=2) as cluster:
            cluster.arm_faults("chunkserver", "service.drop_replicate_ack=probability:0.01:5")
            with Load(cluster) as load:
                for _ in range(3):
                    load.progress()
            cluster.wait_for_health()
            load.verify(self)

    def test_bytes_flip_under_load(self):
        """What flips while servers run is found by readers and by scrubbing, mended from the other copy, and counted."""
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load, Churn():
                load.progress()
                spoiled = replication_test.ReplicationTest.flip_bytes(f"{cluster.directory}/chunkserver-2/segments", 60)
                self.assertGreater(spoiled, 0)
                load.progress()
                cluster.tarn("scrub", "start")
                self.wait_for_repairs(cluster)
                load.progress()
            cluster.wait_for_health()
            load.verify(self)

    def test_a_disk_does_not_give_some_blocks(self):
        """EIO of one disk: readers go on at the other copy, what cannot be read is written anew from it, and that is counted."""
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load:
                load.progress()
            cluster.down()
            cluster.edit_config(lambda config: [server["command"].extend(["--allow-faults", "--fault", "store.read_error=probability:0.5:11"])
                                                for server in config["servers"] if server["name"] == "chunkserver-3"])
            cluster.up()
            load.readers.stopping.clear()
            load.readers.threads = [threading.Thread(target=load.readers._run, args=(i,), daemon=True) for i in range(3)]
            with load.readers, Churn():
                load.readers.progress()
                load.readers.progress()
                # What counts are reads that reach the disk, of which there are few: a reader avoids a server that has failed for some seconds. And
                # half of the attempts to look at a chunk, or to mend it, fail here as well, and come again after 5 s, 10 s, ...
                wait_for(lambda: sum(row["errors_repaired"] for row in cluster.tarn_json("scrub", "status")) > 0, 120, "a damaged chunk is intact again")
                load.readers.progress()
            self.assertEqual([], load.readers.errors)
            status = cluster.tarn_json("status")
            self.assertEqual(["online"] * 3, [row["state"] for row in status["chunkservers"]])
            load.verify(self)

    @staticmethod
    def wait_for_repairs(cluster):
        def repaired():
            rows = cluster.tarn_json("scrub", "status")
            found, mended = sum(row["errors_found"] for row in rows), sum(row["errors_repaired"] for row in rows)
            return all(row["last_round_ended_ns"] for row in rows) and found == mended > 0

        wait_for(repaired, 180, "every damaged block found and repaired")


if __name__ == "__main__":
    unittest.main(verbosity=2)
