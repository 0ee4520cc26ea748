"""The main job: files in with `tarn put`, read through the mount by ordinary programs, out with `tarn get`, the same after a restart."""

import errno
import mmap
import os
import stat
import threading
import unittest

from harness import Cluster, content, drop_caches, need_root_and_fuse, run, tree_digest, wait_for


def make_tree(top):
    os.makedirs(f"{top}/a/b/empty")
    for i in range(300):
        with open(f"{top}/a/file-{i}", "wb") as file:
            file.write(content(i, [0, 1, 4095, 4096, 4097, 110_000, 1_048_577][i % 7]))
        os.utime(f"{top}/a/file-{i}", ns=(10**18 + i, 10**18 + 7 * i + 123))
        os.chmod(f"{top}/a/file-{i}", 0o600 + i % 8)
    with open(f"{top}/a/b/large", "wb") as file:
        for i in range(10):
            file.write(content(1000 + i, 2_000_003))
    os.symlink("../file-1", f"{top}/a/b/link")
    with open(os.fsencode(top) + b"/a/not-utf8-\xff\xfe", "wb") as file:
        file.write(b"x")
    os.mkfifo(f"{top}/a/pipe")
    os.utime(f"{top}/a/b", ns=(10**18, 10**18 + 5))


class DatasetTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root_and_fuse()
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()
        cls.source = f"{cls.cluster.top}/source"
        make_tree(cls.source)

    def expected(self):
        digest = tree_digest(self.source)
        del digest["a/pipe"]
        return digest

    def test_put_mount_get_and_restart(self):
        cluster = self.cluster
        result = cluster.tarn_json("put", f"{self.source}/", "default:/dataset")
        self.assertEqual(302, result["files"])
        self.assertEqual(1, result["ignored_special_files"])
        self.assertEqual(0, result["errors"])
        self.assertEqual(self.expected(), tree_digest(f"{cluster.mount_point}/dataset"))

        again = cluster.tarn_json("put", f"{self.source}/", "default:/dataset")
        self.assertEqual((0, 302), (again["files"], again["skipped_files"]))
        compared = cluster.tarn_json("put", "--checksum", f"{self.source}/", "default:/dataset")
        self.assertEqual((0, 302), (compared["files"], compared["skipped_files"]))

        cluster.tarn("get", "default:/dataset/", f"{cluster.top}/copy")
        self.assertEqual(self.expected(), tree_digest(f"{cluster.top}/copy"))

        cluster.down()
        cluster.up()
        drop_caches()
        self.assertEqual(self.expected(), tree_digest(f"{cluster.mount_point}/dataset"))
        run(["diff", "-r", "--no-dereference", f"{self.source}/a/b", f"{cluster.mount_point}/dataset/a/b"])
        usage = cluster.tarn_json("du", "default:/dataset")
        self.assertEqual(303, usage["files"])  # the symbolic link counts

    def test_put_follows_rsync_rules(self):
        cluster = self.cluster
        cluster.tarn("put", f"{self.source}/a/b", "default:/rules/into")
        self.assertTrue(os.path.exists(f"{cluster.mount_point}/rules/into/b/large"))
        cluster.tarn("put", f"{self.source}/a/file-2", "default:/rules/named")
        self.assertEqual(4095, os.path.getsize(f"{cluster.mount_point}/rules/named"))
        cluster.tarn("put", f"{self.source}/a/file-2", "default:/rules/folder/")
        self.assertTrue(os.path.exists(f"{cluster.mount_point}/rules/folder/file-2"))
        cluster.tarn("rm", "-r", "default:/rules")
        names = [entry["name"] for entry in cluster.tarn_json("ls", "default:/")]
        self.assertNotIn("rules", names)

    def test_changed_file_is_put_again(self):
        cluster = self.cluster
        folder = f"{cluster.top}/changing"
        os.makedirs(folder, exist_ok=True)
        for version in (b"first", b"second version"):
            with open(f"{folder}/file", "wb") as file:
                file.write(version)
            cluster.tarn("put", f"{folder}/", "default:/changing")
            wait_for(lambda: self.read("changing/file") == version, 10, "the new version")

    def read(self, name):
        with open(f"{self.cluster.mount_point}/{name}", "rb") as file:
            return file.read()

    def test_mapped_memory(self):
        path = f"{self.cluster.mount_point}/mapped"
        with open(path, "wb") as file:
            file.truncate(5_000_000)
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[1_000_000:1_000_005] = b"hello"
            view[4_999_999:] = b"!"
            view.flush()
        self.cluster.remount()
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            self.assertEqual(b"hello", view[1_000_000:1_000_005])
            self.assertEqual(b"!\0"[:1], view[4_999_999:])
            self.assertEqual(0, view[3_000_000])

    def test_unlinked_file_stays_readable_while_open(self):
        path = f"{self.cluster.mount_point}/unlinked"
        with open(path, "wb") as file:
            file.write(content(3, 3_000_000))
        with open(path, "r+b") as file:
            os.unlink(path)
            drop_caches()
            self.assertEqual(content(3, 3_000_000), file.read())
            file.seek(0)
            file.write(b"still writable")
            file.flush()
            os.fsync(file.fileno())
            self.assertEqual(0, os.fstat(file.fileno()).st_nlink)
        self.assertFalse(os.path.exists(path))

    def test_direct_io_and_buffered_io_agree(self):
        path = f"{self.cluster.mount_point}/direct"
        block = mmap.mmap(-1, 1 << 20)  # page-aligned
        block.write(content(5, 1 << 20))
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        try:
            for i in range(4):
                self.assertEqual(1 << 20, os.pwritev(descriptor, [block], i << 20))
            back = mmap.mmap(-1, 1 << 20)
            os.preadv(descriptor, [back], 3 << 20)
            self.assertEqual(content(5, 1 << 20), back[:])
        finally:
            os.close(descriptor)
        self.assertEqual(content(5, 1 << 20) * 4, self.read("direct"))

    def test_appends_from_many_threads_are_all_there(self):
        path = f"{self.cluster.mount_point}/log"

        def append(letter):
            with open(path, "ab", buffering=0) as file:
                for _ in range(100):
                    file.write(letter * 63 + b"\n")

        threads = [threading.Thread(target=append, args=(bytes([65 + i]),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = self.read("log").splitlines()
        self.assertEqual(800, len(lines))
        self.assertTrue(all(len(set(line)) == 1 and len(line) == 63 for line in lines))

    def test_unprivileged_user_is_served_and_held_to_permissions(self):
        folder = f"{self.cluster.mount_point}/user"
        os.mkdir(folder)
        os.chmod(folder, 0o1777)
        with open(f"{self.cluster.mount_point}/secret", "w") as file:
            file.write("root only")
        os.chmod(f"{self.cluster.mount_point}/secret", 0o600)
        script = (
            "import os,sys\n"
            f"open('{folder}/mine','w').write('hello')\n"
            f"assert os.stat('{folder}/mine').st_uid == 65534\n"
            "try:\n"
            f"    open('{self.cluster.mount_point}/secret').read()\n"
            "except PermissionError:\n"
            "    sys.exit(0)\n"
            "sys.exit('read a file of root')\n"
        )
        run(["python3", "-c", script], user=65534, group=65534, extra_groups=[])

    def test_times_and_modes_set_by_hand_stay(self):
        path = f"{self.cluster.mount_point}/times"
        with open(path, "wb") as file:
            file.write(content(9, 200_000))
            os.utime(file.fileno(), ns=(1_000_000_007, 2_000_000_009))
        os.chmod(path, 0o640)
        self.cluster.remount()
        status = os.stat(path)
        self.assertEqual((1_000_000_007, 2_000_000_009), (status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(0o640, stat.S_IMODE(status.st_mode))

    def test_names_up_to_255_bytes(self):
        folder = os.fsencode(self.cluster.mount_point)
        for name in (b"n" * 255, b"\xc3\xa9" * 127, b"\xff\xfe\x80"):
            with open(folder + b"/" + name, "wb") as file:
                file.write(name)
            self.assertIn(name, os.listdir(folder))
            os.unlink(folder + b"/" + name)
        with self.assertRaises(OSError) as raised:
            open(folder + b"/" + b"n" * 256, "wb")
        self.assertEqual(errno.ENAMETOOLONG, raised.exception.errno)

    def test_sparse_files_and_truncates(self):
        path = f"{self.cluster.mount_point}/sparse"
        with open(path, "wb") as file:
            file.seek(20_000_000)
            file.write(b"end")
            file.flush()
            file.truncate(10_000_000)
            file.truncate(20_000_003)
        self.cluster.remount()
        data = self.read("sparse")
        self.assertEqual(20_000_003, len(data))
        self.assertEqual(0, data.count(b"e"), "bytes behind a truncate came back")

    def test_volumes(self):
        cluster = self.cluster
        cluster.tarn("volume", "create", "small", "--quota", "10M")
        self.assertEqual(10 << 20, cluster.tarn_json("volume", "info", "small")["quota_bytes"])
        with open(f"{cluster.top}/big", "wb") as file:
            file.write(content(1, 12 << 20))
        refused = cluster.tarn("put", f"{cluster.top}/big", "small:/", check=False)
        self.assertEqual(1, refused.returncode)
        cluster.tarn("volume", "resize", "small", "--quota", "100M")
        cluster.tarn("put", f"{cluster.top}/big", "small:/")
        self.assertEqual(1, cluster.tarn("volume", "delete", "small", check=False).returncode)
        cluster.tarn("volume", "delete", "small", "--recursive")
        self.assertNotIn("small", [volume["name"] for volume in cluster.tarn_json("volume", "list")])

    def test_statfs(self):
        status = os.statvfs(self.cluster.mount_point)
        self.assertGreater(status.f_blocks, 0)
        self.assertGreater(status.f_bavail, 0)
        self.assertEqual(255, status.f_namemax)


if __name__ == "__main__":
    unittest.main(verbosity=2)
