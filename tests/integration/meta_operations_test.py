"""What an operator does with the metadata of a real cluster: sizes, removing trees, quota, backup and restore, fsck."""

import errno
import json
import os
import shutil
import subprocess
import unittest

import harness
from harness import BIN, Cluster, content, run, wait_for


def make_tree(top, directories, files, size=1000):
    for i in range(directories):
        folder = os.path.join(top, f"d{i}", "inner")
        os.makedirs(folder)
        for j in range(files):
            with open(os.path.join(folder, f"f{j}"), "wb") as file:
                file.write(content(i * 1000 + j, size))


def pid_of(cluster, name):
    return harness.pids_of(cluster.command(name))[0]


class MetaOperationsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        harness.need_root_and_fuse()

    def attribute(self, path, name):
        return int(os.getxattr(path, name))

    def settled(self, cluster):
        return cluster.tarn_json("status")["unsettled_directories"] == 0

    def test_sizes_of_directories_follow_what_happens_below(self):
        with Cluster() as cluster:
            top = os.path.join(cluster.mount_point, "tree")
            make_tree(top, 3, 4)
            ctime = os.stat(top).st_ctime_ns
            wait_for(lambda: self.settled(cluster), 30, "sizes carried upwards")
            self.assertEqual(self.attribute(top, "tarn.dir.bytes"), 12_000)
            self.assertEqual(self.attribute(top, "tarn.dir.files"), 12)
            self.assertEqual(self.attribute(top, "tarn.dir.directories"), 6)
            self.assertEqual(os.stat(top).st_ctime_ns, ctime)
            self.assertEqual(os.listxattr(top), [])
            os.truncate(os.path.join(top, "d0/inner/f0"), 10)
            os.unlink(os.path.join(top, "d1/inner/f0"))
            os.rename(os.path.join(top, "d2"), os.path.join(cluster.mount_point, "moved"))
            usage = cluster.tarn_json("du", "default:/tree")
            self.assertEqual((usage["bytes"], usage["files"], usage["directories"]), (3_010 + 3_000, 7, 5))
            self.assertEqual(usage, cluster.tarn_json("du", "--walk", "default:/tree"))
            whole = cluster.tarn_json("du", "default:/")
            self.assertEqual((whole["bytes"], whole["files"]), (10_010, 11))

    def test_a_tree_goes_at_once_and_its_space_follows(self):
        with Cluster() as cluster:
            make_tree(os.path.join(cluster.mount_point, "tree"), 20, 20, size=10)
            cluster.tarn("rm", "-r", "default:/tree")
            wait_for(lambda: not os.path.exists(os.path.join(cluster.mount_point, "tree")), 10, "the name gone")
            cluster.kill_and_restart("metaserver-1")
            wait_for(lambda: cluster.tarn_json("status")["removing_inodes"] == 0, 60, "everything removed")
            volume = cluster.tarn_json("volume", "info", "default")
            self.assertEqual((volume["used_bytes"], volume["used_inodes"]), (0, 0))
            self.assertEqual(cluster.tarn("fsck", check=False).returncode, 0)

    def test_others_than_root_need_permission_on_each_directory(self):
        with Cluster() as cluster:
            top = os.path.join(cluster.mount_point, "tree")
            make_tree(top, 1, 1)
            os.chmod(cluster.mount_point, 0o777)
            os.chmod(top, 0o777)
            os.chmod(cluster.directory, 0o755)
            command = [f"{BIN}/tarn", "rm", "-r", "default:/tree", "--meta", self.address(cluster)]
            done = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("permission denied", done.stderr)
            self.assertTrue(os.path.exists(os.path.join(top, "d0/inner/f0")))

    def address(self, cluster):
        command = cluster.command("metaserver-1")
        return command[command.index("--listen") + 1]

    def test_quota_is_enforced_and_shown(self):
        with Cluster() as cluster:
            cluster.tarn("volume", "resize", "default", "--quota", "1M", "--quota-inodes", "3")
            total = os.statvfs(cluster.mount_point)
            self.assertEqual(total.f_blocks * total.f_frsize, 1 << 20)
            self.assertEqual(total.f_files, 3)
            with self.assertRaises(OSError) as refused:
                with open(os.path.join(cluster.mount_point, "large"), "wb") as file:
                    file.write(bytes(2 << 20))
                    os.fsync(file.fileno())
            self.assertEqual(refused.exception.errno, errno.EDQUOT)
            os.unlink(os.path.join(cluster.mount_point, "large"))
            for i in range(3):
                os.mkdir(os.path.join(cluster.mount_point, f"d{i}"))
            with self.assertRaises(OSError) as refused:
                os.mkdir(os.path.join(cluster.mount_point, "one more"))
            self.assertEqual(refused.exception.errno, errno.EDQUOT)

    def test_a_backup_brings_names_and_bytes_back(self):
        with Cluster(mounted=False) as cluster:
            source = os.path.join(cluster.top, "source")
            make_tree(source, 3, 5, size=70_000)
            cluster.tarn("put", f"{source}/", "default:/data")
            backup = os.path.join(cluster.top, "backup")
            self.assertGreater(cluster.tarn_json("meta", "backup", backup)["bytes"], 0)
            cluster.tarn("rm", "-r", "default:/data/d0")
            cluster.tarn("put", f"{source}/d1", "default:/made-later")
            directory = self.lose_metadata(cluster)
            self.refuse_damage(cluster, backup, directory)
            restored = run([f"{BIN}/tarn-metaserver", "--restore", backup, "--dir", directory, "--listen", self.address(cluster)])
            self.assertIn("incarnation 1", restored.stdout)
            again = run([f"{BIN}/tarn-metaserver", "--restore", backup, "--dir", directory], check=False)
            self.assertNotEqual(again.returncode, 0)
            # The same backup once more: that has to be another incarnation, and nobody has to say which.
            second = run([f"{BIN}/tarn-metaserver", "--restore", backup, "--dir", f"{cluster.top}/second", "--listen", self.address(cluster)])
            self.assertIn("incarnation 2", second.stdout)
            cluster.start("metaserver-1")
            wait_for(lambda: cluster.tarn("status", check=False).returncode == 0, 60, "the restored server serves")
            wait_for(lambda: cluster.tarn_json("status")["health"] == "ok", 60, "chunk servers are back")
            destination = os.path.join(cluster.top, "destination")
            cluster.tarn("get", "default:/data/", destination)
            self.assertEqual(harness.tree_digest(destination), harness.tree_digest(source))
            self.assertTrue(cluster.tarn_json("status")["reclaim_disabled"])
            cluster.tarn("put", f"{source}/d2", "default:/after")
            self.assertEqual(cluster.tarn("fsck", check=False).returncode, 0)
            cluster.tarn("meta", "reclaim", "on")
            self.assertFalse(cluster.tarn_json("status")["reclaim_disabled"])

    def lose_metadata(self, cluster):
        cluster.kill("metaserver-1")
        command = cluster.command("metaserver-1")
        directory = command[command.index("--dir") + 1]
        shutil.rmtree(directory)
        return directory

    def refuse_damage(self, cluster, backup, directory):
        with open(backup, "rb") as file:
            whole = file.read()
        flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
        for bad in (whole[:-1], whole[: len(whole) // 2], flipped, b""):
            path = os.path.join(cluster.top, "bad")
            with open(path, "wb") as file:
                file.write(bad)
            done = run([f"{BIN}/tarn-metaserver", "--restore", path, "--dir", directory], check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertFalse(os.path.exists(os.path.join(directory, "METASERVER")))

    def test_fsck_says_what_chunk_servers_have_lost(self):
        with Cluster(chunkservers=1, mounted=False) as cluster:
            source = os.path.join(cluster.top, "source")
            make_tree(source, 1, 2, size=70_000)
            cluster.tarn("put", f"{source}/", "default:/data")
            clean = cluster.tarn_json("fsck")
            self.assertEqual((clean["findings_total"], clean["chunks_checked"]), (0, 2))
            cluster.kill("chunkserver-1")
            done = cluster.tarn("fsck", "--json", check=False)
            self.assertEqual(done.returncode, 4)
            kinds = {finding["kind"] for finding in json.loads(done.stdout)["findings"]}
            self.assertEqual(kinds, {"unreachable-target"})
            cluster.start("chunkserver-1")

    def test_memory_stays_below_the_limit(self):
        with Cluster(chunkservers=1, mounted=False) as cluster:
            limit = 96 << 20
            cluster.kill("metaserver-1", harness.signal.SIGTERM)

            def set_limit(config):
                server = next(server for server in config["servers"] if server["name"] == "metaserver-1")
                server["command"] += ["--memory-limit", str(limit)]

            cluster.edit_config(set_limit)
            cluster.start("metaserver-1")
            wait_for(lambda: cluster.tarn("status", check=False).returncode == 0, 60, "the server serves")
            cluster.started += cluster.commands()
            run([f"{BIN}/tarn-bench-namespace", "--meta", self.address(cluster), "--files", "150000"], timeout=300)
            with open(f"/proc/{pid_of(cluster, 'metaserver-1')}/status") as file:
                peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
            self.assertLess(peak, limit)
            self.assertEqual(cluster.tarn_json("du", "default:/filled")["files"], 150_000)
            self.assertEqual(cluster.tarn("fsck", "--skip-chunks", check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
