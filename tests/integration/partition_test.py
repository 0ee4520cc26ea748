"""The metadata group on a cut network: each member in a network namespace of its own, their links pulled one after another."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from failover_test import Load
from harness import BIN, need_root_and_fuse, run, wait_for, Cluster


class Network:
    """A bridge in this process's namespace and one namespace per member, named after the process so that runs do not meet."""

    def __init__(self, members):
        self.tag = f"t{os.getpid() % 10000}"
        self.prefix = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.bridge = f"{self.tag}br"
        self.members = members

    def up(self):
        run(["ip", "link", "add", self.bridge, "type", "bridge"])
        run(["ip", "addr", "add", f"{self.prefix}.254/24", "dev", self.bridge])
        run(["ip", "link", "set", self.bridge, "up"])
        for i in range(1, self.members + 1):
            space, outside, inside = f"{self.tag}n{i}", f"{self.tag}v{i}", f"{self.tag}w{i}"
            run(["ip", "netns", "add", space])
            run(["ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", space])
            run(["ip", "link", "set", outside, "master", self.bridge, "up"])
            run(["ip", "-n", space, "addr", "add", f"{self.address(i)}/24", "dev", inside])
            run(["ip", "-n", space, "link", "set", inside, "up"])
            run(["ip", "-n", space, "link", "set", "lo", "up"])

    def address(self, i):
        return f"{self.prefix}.{i}"

    def inside(self, i, command):
        return ["ip", "netns", "exec", f"{self.tag}n{i}", *command]

    def cut(self, i):
        run(["ip", "link", "set", f"{self.tag}v{i}", "down"])

    def mend(self, i):
        run(["ip", "link", "set", f"{self.tag}v{i}", "up"])

    def down(self):
        for i in range(1, self.members + 1):
            run(["ip", "netns", "del", f"{self.tag}n{i}"], check=False)
            run(["ip", "link", "del", f"{self.tag}v{i}"], check=False)
        run(["ip", "link", "del", self.bridge], check=False)


class SpreadCluster:
    """Three metadata servers in their namespaces; a chunk server and the mount outside."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="tarn-test-")
        self.mount_point = os.path.join(self.top, "mnt")
        os.mkdir(self.mount_point)
        self.network = Network(3)
        self.processes = []
        self.addresses = [f"{self.network.address(i)}:7400" for i in (1, 2, 3)]
        self.meta = ",".join(self.addresses)

    def __enter__(self):
        try:
            self.network.up()
            for i in (1, 2, 3):
                join = ["--join", self.meta] if i > 1 else []
                self.spawn(self.network.inside(i, [f"{BIN}/tarn-metaserver", "--dir", f"{self.top}/meta-{i}", "--listen", self.addresses[i - 1],
                                                   "--log-file", f"{self.top}/meta-{i}.log", *join]))
            self.spawn([f"{BIN}/tarn-chunkserver", "--dir", f"{self.top}/chunk", "--listen", f"{self.network.prefix}.254:7410", "--meta", self.meta,
                        "--log-file", f"{self.top}/chunk.log"])
            wait_for(lambda: self.voters() == 3 and self.health() == "ok", 60, "the group is complete")
            self.tarn("volume", "create", "default")
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        run([f"{BIN}/tarn", "umount", "-f", self.mount_point], check=False)
        run(["umount", "-l", self.mount_point], check=False)
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.network.down()
        shutil.rmtree(self.top, ignore_errors=True)

    def spawn(self, command):
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def tarn(self, *arguments, check=True):
        return run([f"{BIN}/tarn", *arguments, "--meta", self.meta], check=check)

    def mount(self):
        run([f"{BIN}/tarn", "mount", f"default@{self.meta}", self.mount_point])

    def remount(self):
        run([f"{BIN}/tarn", "umount", self.mount_point])
        self.mount()

    def second_mount(self):
        return self.mount_point

    members = Cluster.members
    tarn_json = Cluster.tarn_json

    def voters(self):
        return sum(member["role"] in ("leader", "follower") for member in self.members())

    def health(self):
        return self.tarn_json("status")["health"]

    def leader(self):
        return wait_for(lambda: next((i for i, address in enumerate(self.addresses, 1) for member in self.members()
                                      if member["address"] == address and member["role"] == "leader"), None), 30, "a leader")


class PartitionTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()
        if shutil.which("ip") is None or run(["ip", "netns", "add", f"probe{os.getpid()}"], check=False).returncode != 0:
            raise unittest.SkipTest("needs network namespaces (ip netns)")
        run(["ip", "netns", "del", f"probe{os.getpid()}"])

    def test_each_leader_is_cut_off_in_turn(self):
        with SpreadCluster() as cluster, Load(cluster, clients=3) as load:
            for _ in range(2):
                load.progress(60)
                leader = cluster.leader()
                cluster.network.cut(leader)
                load.progress(60)
                self.assertNotEqual(leader, cluster.leader())
                cluster.network.mend(leader)
                wait_for(lambda: cluster.voters() == 3 and cluster.health() == "ok", 60, "the member is back")
            load.__exit__()
            load.verify(self)


if __name__ == "__main__":
    unittest.main(verbosity=2)
