"""kill -9 of each process under load: what was fsynced is there, nothing is torn, servers that come back are found again."""

import os
import unittest

from harness import Cluster, Writers, content, need_root_and_fuse


class KillTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def check_server_kills(self, names, rounds):
        with Cluster() as cluster:
            with Writers(cluster.mount_point) as writers:
                for _ in range(rounds):
                    for name in names:
                        writers.wait_for_progress(20)
                        cluster.kill_and_restart(name)
                writers.wait_for_progress(20)
                writers.stop()
                self.assertTrue(writers.finished(), "writers hang")
                self.assertEqual([], writers.errors, "an application saw more than a pause")
            self.assertEqual([], writers.verify())
            cluster.remount()
            self.assertGreater(len(writers.acknowledged), 60)
            self.assertEqual([], writers.verify())

    def test_metadata_server_killed_under_load(self):
        self.check_server_kills(["metaserver-1"], rounds=3)

    def test_chunk_servers_killed_under_load(self):
        self.check_server_kills(["chunkserver-1", "chunkserver-2", "chunkserver-3"], rounds=1)

    def test_up_again_starts_what_is_missing_and_leaves_the_mount_alone(self):
        with Cluster() as cluster:
            with open(f"{cluster.mount_point}/open", "w") as file:
                cluster.kill("chunkserver-2")
                cluster.up()
                self.assertIsNotNone(cluster.status_if("ok"))
                file.write("still there")
            cluster.up()
            self.assertEqual("still there", open(f"{cluster.mount_point}/open").read())

    def test_client_killed_under_load(self):
        with Cluster() as cluster:
            with Writers(cluster.mount_point) as writers:
                writers.wait_for_progress(60)
                cluster.kill_client()
                writers.stop()
            cluster.mount()
            self.assertEqual([], writers.verify())

    def test_everything_killed_under_load(self):
        with Cluster() as cluster:
            with Writers(cluster.mount_point) as writers:
                writers.wait_for_progress(60)
                cluster.kill_everything()
                writers.stop()
            cluster.up()
            self.assertEqual([], writers.verify())
            # And it goes on working.
            path = os.path.join(cluster.mount_point, "after")
            with open(path, "wb") as file:
                file.write(content(7, 3_000_000))
            cluster.remount()
            with open(path, "rb") as file:
                self.assertEqual(content(7, 3_000_000), file.read())

    def test_unacknowledged_writes_are_whole_or_absent_after_a_kill(self):
        """Each block of the file is of one version: overwrites without fsync may be lost, never mixed within a write."""
        block = 65536
        with Cluster() as cluster:
            path = os.path.join(cluster.mount_point, "versions")
            with open(path, "wb") as file:
                file.write(bytes([1]) * block * 16)
                file.flush()
                os.fsync(file.fileno())
            descriptor = os.open(path, os.O_WRONLY)
            for version in range(2, 12):
                for i in range(16):
                    os.pwrite(descriptor, bytes([version]) * block, i * block)
            cluster.kill_everything()
            try:
                os.close(descriptor)
            except OSError:
                pass
            cluster.up()
            with open(path, "rb") as file:
                data = file.read()
            self.assertEqual(16 * block, len(data))
            for i in range(16):
                self.assertEqual(1, len(set(data[i * block:(i + 1) * block])), f"block {i} is torn")


if __name__ == "__main__":
    unittest.main(verbosity=2)
