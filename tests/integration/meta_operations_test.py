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

    FILES = 60

    def write_files(self, cluster, seed):
        """One change each."""
        for number in range(self.FILES):
            with open(f"{cluster.mount_point}/file-{number}", "wb") as file:
                file.write(content(seed + number, 20_000))

    def overwrite_files(self, cluster, seed):
        for number in range(self.FILES):
            with open(f"{cluster.mount_point}/file-{number}", "r+b") as file:
                file.write(content(seed + number, 20_000))

    def check_files(self, cluster, seed):
        """What is stored, not what a client remembers."""
        destination = os.path.join(cluster.top, "destination")
        cluster.tarn("get", "default:/", destination)
        try:
            for number in range(self.FILES):
                with open(f"{destination}/file-{number}", "rb") as file:
                    self.assertEqual(content(seed + number, 20_000), file.read(), f"file-{number}")
        finally:
            shutil.rmtree(destination)

    def target_of(self, cluster, name):
        address = next(server["address"] for server in cluster.config()["servers"] if server["name"] == name)
        return next(target["target"] for target in cluster.tarn_json("target", "list") if target["address"] == address)

    def fsck(self, cluster, *arguments):
        done = cluster.tarn("fsck", *arguments, "--json", check=False, timeout=300)
        return done.returncode, json.loads(done.stdout)["findings"]

    def arm_forgetting(self, cluster, kind):
        """The second chunk server acknowledges changes of that kind and does not make them."""
        cluster.arm_faults("chunkserver-2", f"service.forget_{kind}_change=always")
        cluster.wait_for_health()

    def repair_copies(self, cluster, kind):
        """All findings are of that kind, and repaired: the targets they were at."""
        status, findings = self.fsck(cluster)
        self.assertEqual((4, {(kind, False)}), (status, {(finding["kind"], finding["repaired"]) for finding in findings}))
        status, findings = self.fsck(cluster, "--repair")
        self.assertEqual((3, {(kind, True)}), (status, {(finding["kind"], finding["repaired"]) for finding in findings}), findings)
        self.assertEqual((0, []), self.fsck(cluster))
        return {int(finding["what"].split(" target ")[1].split()[0]) for finding in findings}

    def test_fsck_repairs_a_copy_that_lacks_chunks(self):
        with Cluster(chunkservers=3, replicas=3) as cluster:
            self.arm_forgetting(cluster, "first")
            liar = self.target_of(cluster, "chunkserver-2")
            self.write_files(cluster, 1000)
            self.assertEqual({liar}, self.repair_copies(cluster, "missing-copy"))
            # It alone has everything.
            for name in ("chunkserver-1", "chunkserver-3"):
                cluster.kill(name)
            self.check_files(cluster, 1000)

    def test_fsck_repairs_a_copy_that_is_old(self):
        with Cluster(chunkservers=3, replicas=3) as cluster:
            self.arm_forgetting(cluster, "later")
            liar = self.target_of(cluster, "chunkserver-2")
            self.write_files(cluster, 1000)
            self.assertEqual((0, []), self.fsck(cluster))
            self.overwrite_files(cluster, 2000)
            self.assertEqual({liar}, self.repair_copies(cluster, "stale-copy"))
            for name in ("chunkserver-1", "chunkserver-3"):
                cluster.kill(name)
            self.check_files(cluster, 2000)

    def test_fsck_repairs_from_the_only_copy_although_the_primary_lacks_it(self):
        with Cluster(chunkservers=3, replicas=3) as cluster:
            self.arm_forgetting(cluster, "first")
            self.write_files(cluster, 1000)
            # It becomes the primary of groups in which it comes second, and the one that comes back is made equal to it.
            liar = self.target_of(cluster, "chunkserver-2")
            others = {self.target_of(cluster, name): name for name in ("chunkserver-1", "chunkserver-3")}
            behind = []
            for _ in range(4):
                orders = [group["in_sync"] for group in cluster.tarn_json("group", "list") if group["replicas"] == 3]
                firsts = [order[0] for order in orders if order[1] == liar] or list(others)
                victim = others[max(firsts, key=firsts.count)]
                cluster.kill(victim)
                wait_for(lambda: cluster.status_if("degraded"), 60, "groups without the killed server")
                cluster.start(victim)
                cluster.wait_for_health()
                _, findings = self.fsck(cluster)
                behind = [finding for finding in findings if any(f" target {target} lacks" in finding["what"] for target in others)]
                if behind:
                    break
            self.assertGreater(len(behind), 0, "no group has a primary that lacks chunks")
            self.repair_copies(cluster, "missing-copy")
            self.check_files(cluster, 1000)

    def test_fsck_says_so_where_all_copies_are_gone(self):
        with Cluster(chunkservers=2, replicas=2) as cluster:
            self.arm_forgetting(cluster, "first")
            self.write_files(cluster, 1000)
            cluster.kill("chunkserver-1")
            shutil.rmtree(f"{cluster.directory}/chunkserver-1")
            wait_for(lambda: cluster.tarn("node", "remove", cluster.node_of("chunkserver-1"), check=False).returncode == 0, 60, "the lost server leaves")
            status, before = self.fsck(cluster)
            self.assertEqual(4, status)
            lost = [finding for finding in before if finding["kind"] == "missing-data"]
            self.assertGreater(len(lost), 0)
            status, after = self.fsck(cluster, "--repair")
            self.assertEqual((4, before), (status, after), "nothing was done")
            for finding in lost:
                self.assertIn("there is no copy to repair it from", finding["what"])

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
