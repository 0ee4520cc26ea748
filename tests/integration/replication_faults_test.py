"""Replicated data under single faults that are not the death of a server: a full disk, a cut between two machines, a slow server, lost
acknowledgements, disks that give wrong bytes or none, and fio's own verification while servers are killed and stopped.

No application may read a wrong byte. What else it may see is said by each test.
"""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BIN, Cluster, content, drop_caches, need_root_and_fuse, run, wait_for
from partition_test import Network
import replication_test
from replication_test import Crew, Load, Readers


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
            # Groups of one copy come a moment after the servers.
            wait_for(self.takes_writes, 30, "placement groups")
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

    def takes_writes(self):
        path = f"{self.mount_point}/probe"
        try:
            with open(path, "wb") as file:
                file.write(b"probe")
                os.fsync(file.fileno())
            os.unlink(path)
            return True
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False

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
        return __import__("json").loads(done.stdout) if done.stdout else {}

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
                # Said with the next heartbeat.
                wait_for(lambda: "has room again" in cluster.logs("chunkserver-1"), 10, "the log tells of the room")
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

    def need_namespaces(self):
        if shutil.which("ip") is None or run(["ip", "netns", "add", f"probe{os.getpid()}"], check=False).returncode != 0:
            self.skipTest("needs network namespaces (ip netns)")
        run(["ip", "netns", "del", f"probe{os.getpid()}"])

    def test_machines_are_cut_off_from_each_other(self):
        """First the client from each replica, then replicas from each other: pauses only, and short ones where something can be done."""
        self.need_namespaces()
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
        self.need_namespaces()
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

    def test_a_server_that_the_client_does_not_reach_is_restarted(self):
        """Another process has the only copies then, in the same epoch: it takes nothing that was meant for the one before."""
        self.need_namespaces()
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
        """EIO of one disk: readers go on at the other copy, the blocks are written anew from it, and that is counted."""
        with Cluster(chunkservers=3, replicas=2) as cluster:
            with Load(cluster) as load:
                load.progress()
            cluster.down()
            cluster.edit_config(lambda config: [server["command"].extend(["--allow-faults", "--fault", "store.read_error=probability:0.2:11"])
                                                for server in config["servers"] if server["name"] == "chunkserver-3"])
            cluster.up()
            load.readers.stopping.clear()
            load.readers.threads = [threading.Thread(target=load.readers._run, args=(i,), daemon=True) for i in range(3)]
            with load.readers, Churn():
                load.readers.progress()
                load.readers.progress()
                # Ninety reads may be over before what they want has left the kernel's memory.
                wait_for(lambda: sum(row["errors_repaired"] for row in cluster.tarn_json("scrub", "status")) > 0, 60, "a block was written anew")
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
