"""Replicated data while machines are cut off from each other, silently, and fio's own verification while servers are killed and stopped.

No application may read a wrong byte. What else it may see is said by each test.
"""

import os
import shutil
import signal
import time
import unittest

from cut_cluster import CutCluster, need_namespaces
from harness import Cluster, need_root_and_fuse, run, wait_for
from replication_test import Crew, Load


class Fio(Crew):
    """fio writes at random places and verifies what it reads by sums of its own, again and again."""

    def __init__(self, folder):
        super().__init__(1)
        self.folder = folder
        self.rounds = 0

    def _run(self, number):
        while not self.stopping.is_set():
            done = run(["fio", "--name=verify", f"--directory={self.folder}", "--size=8m", "--rw=randwrite", "--bsrange=1k-64k", "--bs_unaligned",
                        "--ioengine=psync", "--fsync=16", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=32", "--do_verify=1",
                        f"--randseed={self.rounds + 1}", "--minimal"], check=False, timeout=300)
            if done.returncode != 0:
                self.errors.append(f"round {self.rounds}: {done.stdout[-300:]}{done.stderr[-600:]}")
                return
            self.rounds += 1

    def progress(self, seconds=120):
        goal = self.rounds + 2
        wait_for(lambda: self.rounds >= goal or self.errors, seconds, "fio goes on")


class ReplicationCutsTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_machines_are_cut_off_from_each_other(self):
        """First the client from each replica, then replicas from each other: pauses only, and short ones where something can be done."""
        need_namespaces()
        with CutCluster() as cluster, Load(cluster) as load:
            load.progress()
            for server in (1, 2, 3):
                load.readers.longest_s = 0.0
                # What only the one before and this one have is to be read at once there, where TCP waits ever longer to try again.
                if server > 1:
                    cluster.mend(CutCluster.CLIENT, server - 1)
                cluster.cut(CutCluster.CLIENT, server)
                over_at = time.monotonic() + 8.0
                wait_for(lambda: time.monotonic() >= over_at, 60, "the cut has lasted")
                load.readers.progress()
                print(f"the client is cut off from replica {server}: longest read {load.readers.longest_s:.2f} s", flush=True)
                self.assertLess(load.readers.longest_s, 3.0)
                self.assertEqual([], load.writers.errors)
            cluster.mend(CutCluster.CLIENT, 3)
            mended_at = time.monotonic()
            load.progress()
            print(f"mended, all goes on within {time.monotonic() - mended_at:.2f} s", flush=True)
            self.assertLess(time.monotonic() - mended_at, 10.0)
            for one, other in ((1, 2), (2, 3), (1, 3)):
                load.readers.longest_s = load.writers.longest_s = 0.0
                cluster.cut(one, other)
                load.progress()
                load.progress()
                print(f"replica {one} is cut off from replica {other}: longest read {load.readers.longest_s:.2f} s, "
                      f"longest fsync {load.writers.longest_s:.2f} s", flush=True)
                cluster.mend(one, other)
                self.assertLess(load.readers.longest_s, 5.0)
                self.assertLess(load.writers.longest_s, 10.0)
                cluster.wait_for_health()
            load.__exit__()
            load.verify(self)

    def test_the_client_alone_is_cut_off_from_each_server(self):
        """Everybody else reaches the server, so nobody takes its place, and it may have the only copy: requests go through another server. The
        cut lasts for longer than requests are tried again (30 s)."""
        need_namespaces()
        cut_s = float(os.environ.get("TARN_CUT_S", "40"))
        for replicas in (1, 2):
            with CutCluster(replicas) as cluster, Load(cluster) as load:
                load.progress()
                for server in (1, 2, 3):
                    load.readers.longest_s = load.writers.longest_s = 0.0
                    reads, syncs = load.readers.reads, load.writers.syncs
                    cluster.cut(CutCluster.CLIENT, server)
                    over_at = time.monotonic() + cut_s
                    wait_for(lambda: time.monotonic() >= over_at or load.readers.errors or load.writers.errors, cut_s + 60, "the cut has lasted")
                    load.progress()
                    print(f"{replicas} copies, the client is cut off from server {server} for {cut_s:.0f} s: {load.readers.reads - reads} files read, "
                          f"longest {load.readers.longest_s:.2f} s; {load.writers.syncs - syncs} fsyncs, longest {load.writers.longest_s:.2f} s", flush=True)
                    self.assertEqual([], load.readers.errors + load.writers.errors)
                    self.assertLess(load.readers.longest_s, 10.0)
                    self.assertLess(load.writers.longest_s, 10.0)
                    self.assertIn(f"requests go through another one server={cluster.network.address(server)}:", cluster.mount_log())
                    cluster.mend(CutCluster.CLIENT, server)
                    again = f"is reached directly again server={cluster.network.address(server)}:"
                    wait_for(lambda: again in cluster.mount_log(), 30, "requests go directly again")
                    load.progress()
                load.__exit__()
                load.verify(self)

    def test_fio_verifies_while_servers_are_killed_and_stopped(self):
        if shutil.which("fio") is None:
            self.skipTest("needs fio")
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Fio(cluster.mount_point) as fio:
                for name in cluster.names("chunkserver"):
                    cluster.kill(name)
                    fio.progress()
                    cluster.start(name)
                    cluster.wait_for_health()
                    cluster.kill(name, signal.SIGSTOP)
                    try:
                        fio.progress()
                    finally:
                        cluster.kill(name, signal.SIGCONT)
                    cluster.wait_for_health()
            self.assertEqual([], fio.errors)
            print(f"fio: {fio.rounds} rounds", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
