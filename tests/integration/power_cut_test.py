"""Power cuts: the servers' directory lies on a loop-mounted file system that is shut down under load, without flushing its log.

A kill cannot show a missing fsync, since the page cache survives it. So the same test with syncing switched off must fail.

The cut takes the disks away but leaves the processes running for a moment, as no real power cut does. So two things are asked for: what was
acknowledged before the cut began is there (the power cut), and so is what was acknowledged while only the chunk servers' disk was going (a
disk that dies under a server: the server must not believe its file system then, see PosixSegmentFile::FileSystemFailure).
"""

import os
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import Cluster, Writers, need_root_and_fuse, run, wait_for

IMAGE_BYTES = 3 << 30


class LoopImage:
    """A sparse image file with a file system of its own, loop-mounted."""

    def __init__(self, kind):
        # ext4 commits its journal every few seconds by itself, which may save what nobody synced.
        self.options = "loop,commit=300" if kind == "ext4" else "loop"
        self.top = tempfile.mkdtemp(prefix="tarn-image-")
        self.image = f"{self.top}/image"
        self.mount_point = f"{self.top}/mnt"
        os.mkdir(self.mount_point)
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        run([f"mkfs.{kind}", "-q", self.image])
        self.mount()

    def mount(self):
        run(["mount", "-o", self.options, self.image, self.mount_point])

    def cut_power(self):
        run(["xfs_io", "-x", "-c", "shutdown", self.mount_point])

    def unmount(self):
        # A server that ended by itself when its disk went may hold its files for a moment more.
        wait_for(lambda: run(["umount", self.mount_point], check=False).returncode == 0, 60, f"umount {self.mount_point}")

    def close(self):
        run(["umount", self.mount_point], check=False)
        run(["umount", "-l", self.mount_point], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


class PowerCutTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()
        for tool in ("xfs_io", "mkfs.ext4", "mkfs.xfs"):
            if shutil.which(tool) is None:
                self.skipTest(f"needs {tool}")
        if subprocess.run(["losetup", "-f"], capture_output=True).returncode != 0:
            self.skipTest("needs loop devices")

    def lost_after_power_cut(self, kind, faults=()):
        """What was acknowledged by fsync and is not there after the cut: before it began, and while the chunk servers' disk was going.

        The chunk servers have a disk of their own: on a shared one, the metadata server's syncs would carry their data along.
        """
        meta_image, chunk_image = LoopImage(kind), LoopImage(kind)
        cluster = Cluster(directory=f"{meta_image.mount_point}/cluster")
        try:
            os.mkdir(cluster.directory)
            for i in range(1, 4):
                os.mkdir(f"{chunk_image.mount_point}/{i}")
                os.symlink(f"{chunk_image.mount_point}/{i}", f"{cluster.directory}/chunkserver-{i}")
            cluster.up()
            if faults:
                cluster.arm_faults("chunkserver", *faults)
            with Writers(cluster.mount_point) as writers:
                writers.wait_for_progress(150)
                commands = cluster.commands()
                data_cut = time.monotonic()
                chunk_image.cut_power()
                metadata_cut = time.monotonic()
                meta_image.cut_power()
                cluster.kill_what_runs(commands)
                writers.stop()
            for image in (meta_image, chunk_image):
                image.unmount()
                image.mount()
            try:
                cluster.up()
            except AssertionError as error:
                if faults:  # a store that lost what it thinks it has may also refuse to start
                    return [str(error)], []
                raise
            self.assertGreaterEqual(len(writers.acknowledged), 150)
            self.cuts = f"(the data disk was cut at {data_cut:.3f} s, the metadata disk at {metadata_cut:.3f} s)"
            return writers.verify(lambda at: at < data_cut), writers.verify(lambda at: data_cut <= at < metadata_cut)
        finally:
            cluster.close()
            meta_image.close()
            chunk_image.close()

    def check(self, kind):
        before, while_dying = self.lost_after_power_cut(kind)
        self.assertEqual([], before, f"acknowledged before the cut {self.cuts}")
        self.assertEqual([], while_dying, f"acknowledged while the disk was dying {self.cuts}")

    def test_ext4(self):
        self.check("ext4")

    def test_xfs(self):
        self.check("xfs")

    def test_without_syncing_data_is_lost(self):
        faults = ["store.skip_sync=always"]
        before, _ = self.lost_after_power_cut("ext4", faults)
        self.assertNotEqual([], before, "the test does not notice a missing sync")


if __name__ == "__main__":
    unittest.main(verbosity=2)
