"""Bad input and faults: a clear error, and nothing lost."""

import errno
import glob
import os
import shutil
import signal
import socket
import tempfile
import unittest

from harness import BIN, Cluster, content, drop_caches, need_root_and_fuse, pids_of, run, wait_for


class BadInputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root_and_fuse()
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()

    def refused(self, *arguments, status=1, text=""):
        done = self.cluster.tarn(*arguments, check=False)
        self.assertEqual(status, done.returncode, done.stdout + done.stderr)
        self.assertTrue(done.stderr.strip(), "no reason given")
        self.assertIn(text, done.stderr)
        return done

    def test_command_line(self):
        self.refused("nonsense", status=2)
        self.refused("ls", status=2)
        self.refused("ls", "no-colon/path", text="VOLUME:/PATH")
        self.refused("ls", "default:/missing", text="/missing")
        self.refused("ls", "nosuch:/", text="nosuch")
        self.refused("put", "/nonexistent-source", "default:/", text="/nonexistent-source")
        self.refused("volume", "create", "Bad/Name")
        self.refused("volume", "create", "default")
        self.refused("volume", "create", "x", "--stripe-unit", "1000")
        self.refused("volume", "create", "x", "--quota", "lots", text="lots")
        self.refused("volume", "create", "x", "--replicas", "4", text="4")
        self.refused("dev", "up", "--chunkservers", "5", text="contradicts")

    def test_impossible_clusters_are_refused_and_leave_nothing(self):
        with tempfile.TemporaryDirectory() as top:
            for flag, value, text in (("--replicas", "4", "1 to 3"), ("--metaservers", "2", "an even number"), ("--metaservers", "7", "1, 3 or 5")):
                done = run([f"{BIN}/tarn", "dev", "up", "--dir", f"{top}/c", flag, value], check=False)
                self.assertEqual(1, done.returncode)
                self.assertIn(text, done.stderr)
            self.assertEqual([], os.listdir(top))

    def test_unreachable_server(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            done = run([f"{BIN}/tarn", "ls", "default:/", "--meta", address], check=False)
            self.assertEqual(1, done.returncode)
            self.assertIn(address, done.stderr)
            done = run([f"{BIN}/tarn", "status", "--json", "--meta", address], check=False)
            self.assertEqual(1, done.returncode)
            self.assertIn('"unavailable"', done.stdout)

    def test_mount_points(self):
        top = self.cluster.top
        self.refused("mount", "default", f"{top}/missing", text="missing")
        os.makedirs(f"{top}/full/something", exist_ok=True)
        self.refused("mount", "default", f"{top}/full", text="empty")
        with open(f"{top}/afile", "w"):
            pass
        self.refused("mount", "default", f"{top}/afile", text="directory")
        os.makedirs(f"{top}/second", exist_ok=True)
        self.refused("mount", "nosuch", f"{top}/second", text="nosuch")
        self.refused("mount", "default:/no/such/dir", f"{top}/second", text="/no/such/dir")
        self.refused("umount", f"{top}/second")
        self.cluster.tarn("mount", "default", f"{top}/second", "-o", "ro")
        with self.assertRaises(OSError) as raised:
            open(f"{top}/second/new", "w")
        self.assertEqual(errno.EROFS, raised.exception.errno)
        self.cluster.tarn("umount", f"{top}/second")

    def start_by_hand(self, command):
        return run(command, check=False, timeout=60)

    def test_second_server_on_a_directory_is_refused(self):
        for name in ("chunkserver-1", "metaserver-1"):
            command = list(self.cluster.command(name))
            # Another address, the same directory.
            for flag in ("--listen", "--grpc-listen"):
                if flag in command:
                    command[command.index(flag) + 1] = "127.0.0.1:0"
            del command[command.index("--log-file"):command.index("--log-file") + 2]
            done = self.start_by_hand(command)
            self.assertEqual(1, done.returncode, done.stderr)
            self.assertIn("LOCK", done.stderr)

    def test_port_in_use(self):
        for name in ("chunkserver-1", "metaserver-1"):
            command = list(self.cluster.command(name))
            address = command[command.index("--listen") + 1]
            command[command.index("--dir") + 1] = f"{self.cluster.top}/other-{name}"
            for flag in ("--grpc-listen",):
                if flag in command:
                    command[command.index(flag) + 1] = "127.0.0.1:0"
            del command[command.index("--log-file"):command.index("--log-file") + 2]
            done = self.start_by_hand(command)
            self.assertEqual(1, done.returncode, done.stderr)
            self.assertIn(address, done.stderr)


class DamageTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_flipped_byte_is_an_error_never_wrong_data(self):
        with Cluster(chunkservers=1) as cluster:
            data = content(11, 300_000)
            path = f"{cluster.mount_point}/victim"
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            cluster.tarn("umount", cluster.mount_point)
            cluster.kill("chunkserver-1", signal.SIGTERM)
            flipped = 0
            for segment in glob.glob(f"{cluster.directory}/chunkserver-1/segments/*"):
                with open(segment, "r+b") as file:
                    position = file.read().find(data[8192:8192 + 64])
                    if position >= 0:
                        file.seek(position)
                        file.write(bytes([data[8192] ^ 1]))
                        flipped += 1
            self.assertEqual(1, flipped)
            drop_caches()
            cluster.start("chunkserver-1")
            wait_for(lambda: cluster.tarn_json("status")["health"] == "ok", 60, "the chunk server back")
            cluster.mount()
            with self.assertRaises(OSError) as raised:
                with open(path, "rb") as file:
                    file.read()
            self.assertEqual(errno.EIO, raised.exception.errno)
            logged = cluster.logs("chunkserver-1")
            self.assertRegex(logged, r"(?i)sum|corrupt")

    def test_damaged_directories_are_refused_by_name(self):
        with Cluster(chunkservers=1) as cluster:
            with open(f"{cluster.mount_point}/file", "wb") as file:
                file.write(content(1, 100_000))
            cluster.down()
            for name, pattern in (("chunkserver-1", "TARGET"), ("metaserver-1", "METASERVER")):
                identity = f"{cluster.directory}/{name}/{pattern}"
                shutil.copy(identity, f"{cluster.top}/saved")
                with open(identity, "r+b") as file:
                    first = file.read(1)
                    file.seek(0)
                    file.write(bytes([first[0] ^ 0xFF]))
                command = list(cluster.command(name))
                del command[command.index("--log-file"):command.index("--log-file") + 2]
                done = run(command, check=False, timeout=60)
                self.assertEqual(1, done.returncode, done.stderr)
                self.assertIn(identity, done.stderr)
                shutil.copy(f"{cluster.top}/saved", identity)
            cluster.up()
            with open(f"{cluster.mount_point}/file", "rb") as file:
                self.assertEqual(content(1, 100_000), file.read())

    def test_chunk_server_of_another_cluster_is_refused(self):
        with Cluster(chunkservers=1) as cluster, Cluster(chunkservers=1) as other:
            other.kill("chunkserver-1", signal.SIGTERM)
            command = list(other.command("chunkserver-1"))
            command[command.index("--meta") + 1] = cluster.config()["servers"][0]["address"]
            del command[command.index("--log-file"):command.index("--log-file") + 2]
            done = run(command, check=False, timeout=60)
            self.assertEqual(1, done.returncode, done.stderr)
            self.assertIn("cluster", done.stderr)
            self.assertEqual([], pids_of(command))

    def test_full_chunk_directory_gives_enospc_and_tears_nothing(self):
        with Cluster(chunkservers=1) as cluster:
            cluster.down()
            image = f"{cluster.top}/image"
            with open(image, "wb") as file:
                file.truncate(600 << 20)
            run(["mkfs.ext4", "-q", image])
            target = f"{cluster.directory}/chunkserver-1"
            small = f"{cluster.top}/small"
            os.mkdir(small)
            run(["mount", "-o", "loop", image, small])
            try:
                run(["cp", "-a", f"{target}/.", small])
                run(["mount", "--bind", small, target])
                try:
                    cluster.up()
                    whole = self.fill(cluster)
                    # Removing makes room again.
                    for path in list(whole)[:10]:
                        os.unlink(path)
                    cluster.down()
                finally:
                    cluster.tarn("dev", "down", check=False)
                    run(["umount", target], check=False)
            finally:
                run(["umount", small], check=False)

    def test_a_cluster_whose_only_disk_is_full_can_be_emptied(self):
        """Metadata and three chunk servers share one small disk."""
        disk = None

        def prepare(cluster):
            nonlocal disk
            image = f"{cluster.top}/image"
            with open(image, "wb") as file:
                file.truncate(2 << 30)
            run(["mkfs.ext4", "-q", "-m", "0", image])
            disk = f"{cluster.top}/disk"
            os.mkdir(disk)
            run(["mount", "-o", "loop", image, disk])
            cluster.directory = f"{disk}/cluster"

        try:
            with Cluster(replicas=2, prepare=prepare) as cluster:
                whole = self.fill(cluster)
                with self.assertRaises(OSError) as refused:
                    for i in range(100):
                        with open(f"{cluster.mount_point}/more-{i}", "wb", buffering=0) as file:
                            file.write(content(i, 8 << 20))
                            os.fsync(file.fileno())
                self.assertEqual(errno.ENOSPC, refused.exception.errno)
                for path in list(whole)[10:]:
                    os.unlink(path)

                def write():
                    try:
                        with open(f"{cluster.mount_point}/again", "wb", buffering=0) as file:
                            file.write(content(1, 8 << 20))
                            os.fsync(file.fileno())
                        return True
                    except OSError as error:
                        self.assertEqual(errno.ENOSPC, error.errno)
                        return False
                wait_for(write, 60, "room after files were removed")
                cluster.wait_for_health()
                cluster.remount()
                for path, seed in list(whole.items())[:10]:
                    with open(path, "rb") as file:
                        self.assertEqual(content(seed, 8 << 20), file.read(), path)
        finally:
            if disk:
                run(["umount", "-l", disk], check=False)
                shutil.rmtree(os.path.dirname(disk), ignore_errors=True)

    def fill(self, cluster):
        whole = {}
        refused = None
        for i in range(200):
            path = f"{cluster.mount_point}/file-{i}"
            try:
                with open(path, "wb", buffering=0) as file:
                    file.write(content(i, 8 << 20))
                    os.fsync(file.fileno())
                whole[path] = i
            except OSError as error:
                refused = error.errno
                break
        self.assertEqual(errno.ENOSPC, refused)
        self.assertGreater(len(whole), 10)
        cluster.remount()
        for path, seed in whole.items():
            with open(path, "rb") as file:
                self.assertEqual(content(seed, 8 << 20), file.read(), path)
        return whole


if __name__ == "__main__":
    unittest.main(verbosity=2)
