"""A cluster whose machines can be cut off from each other: each process in a network namespace of its own."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

from harness import BIN, Cluster, drop_caches, run, wait_for
from partition_test import Network


class CutCluster:
    """Three chunk servers and a client, each in a network namespace of its own; the metadata server outside. Any two can be cut off from each
    other, silently: their neighbour entries point nowhere."""

    CLIENT = 4

    def __init__(self, replicas=2):
        self.top = tempfile.mkdtemp(prefix="tarn-test-")
        self.replicas = replicas
        self.mount_point = os.path.join(self.top, "mnt")
        os.mkdir(self.mount_point)
        self.network = Network(4)
        self.processes = []
        self.chunkservers = {}
        self.restarted = []
        self.meta = f"{self.network.prefix}.254:7400"
        # Cuts, mends and starts at once. A child that is made while files of the mount are open closes its copies of them first, and so may wait
        # for the very server that is to be reached again.
        self.shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        try:
            self.network.up()
            self.spawn([f"{BIN}/tarn-metaserver", "--dir", f"{self.top}/meta", "--listen", self.meta, "--log-file", f"{self.top}/meta.log"])
            for i in (1, 2, 3):
                self.chunkservers[i] = self.spawn(self.chunkserver(i))
            wait_for(lambda: len([row for row in self.status().get("chunkservers", []) if row["state"] == "online"]) == 3, 60, "all chunk servers")
            self.tarn("volume", "create", "default", "--replicas", str(self.replicas))
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        run(self.inside(self.CLIENT, [f"{BIN}/tarn", "umount", "-f", self.mount_point]), check=False)
        run(["umount", "-l", self.mount_point], check=False)
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for pid in self.restarted:
            os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.shell.stdin.close()
        self.shell.wait()
        self.shell.stdout.close()
        self.network.down()
        shutil.rmtree(self.top, ignore_errors=True)

    def inside(self, i, command):
        """Only the network is another one: the mount is to be seen outside."""
        return ["nsenter", f"--net=/var/run/netns/{self.network.tag}n{i}", *command]

    def spawn(self, command):
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return self.processes[-1]

    def chunkserver(self, i):
        return self.inside(i, [f"{BIN}/tarn-chunkserver", "--dir", f"{self.top}/chunk-{i}", "--listen", f"{self.network.address(i)}:7410",
                               "--node", f"n{i}", "--meta", self.meta, "--log-file", f"{self.top}/chunk-{i}.log"])

    def restart_chunkserver(self, i):
        """Shut down in order, and started again; once for each."""
        process = self.chunkservers.pop(i)
        process.terminate()
        process.wait(60)
        self.shell.stdin.write(f"{shlex.join(self.chunkserver(i))} > /dev/null 2>&1 & echo $!\n")
        self.shell.stdin.flush()
        self.restarted.append(int(self.shell.stdout.readline()))

    def tarn(self, *arguments, check=True):
        return run([f"{BIN}/tarn", *arguments, "--meta", self.meta], check=check)

    tarn_json = Cluster.tarn_json
    status_if = Cluster.status_if
    wait_for_health = Cluster.wait_for_health

    def status(self):
        done = self.tarn("status", "--json", check=False)
        return json.loads(done.stdout) if done.stdout else {}

    def mount(self):
        run(self.inside(self.CLIENT, [f"{BIN}/tarn", "mount", f"default@{self.meta}", self.mount_point, "--log-file", f"{self.top}/mount.log"]))

    def mount_log(self):
        with open(f"{self.top}/mount.log", encoding="utf-8", errors="replace") as log:
            return log.read()

    def remount(self):
        run(self.inside(self.CLIENT, [f"{BIN}/tarn", "umount", self.mount_point]))
        drop_caches()
        self.mount()

    def _neighbours(self, action, i, j):
        permanent = "nud permanent" if action == "replace" else ""
        for here, there in ((i, j), (j, i)):
            self.shell.stdin.write(f"ip -n {self.network.tag}n{here} neigh {action} {self.network.address(there)} lladdr 02:00:00:00:00:01 "
                                   f"dev {self.network.tag}w{here} {permanent}; echo $?\n")
        self.shell.stdin.flush()
        return [self.shell.stdout.readline().strip() for _ in range(2)]

    def cut(self, i, j):
        assert self._neighbours("replace", i, j) == ["0", "0"]

    def mend(self, i, j):
        self._neighbours("del", i, j)


def need_namespaces():
    probe = f"probe{os.getpid()}"
    if shutil.which("ip") is None or run(["ip", "netns", "add", probe], check=False).returncode != 0:
        raise unittest.SkipTest("needs network namespaces (ip netns)")
    run(["ip", "netns", "del", probe])
