"""What programs expect of a file system, on a real mount of a real cluster."""

import os
import unittest

from harness import BIN, Cluster, need_root_and_fuse, run

CHECKS = os.path.join(os.path.dirname(BIN), "test", "tarn-posix-checks")


class PosixTest(unittest.TestCase):
    def test_checks_pass_and_leave_nothing(self):
        need_root_and_fuse()
        if not os.path.exists(CHECKS):
            self.skipTest(f"{CHECKS} is not built")
        with Cluster() as cluster:
            done = run([CHECKS, cluster.mount_point, "--gtest_brief=1"], check=False, timeout=500)
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)
            self.assertEqual([], os.listdir(cluster.mount_point))


if __name__ == "__main__":
    unittest.main()
