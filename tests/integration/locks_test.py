"""Advisory locks on two mounts of one volume: flock(2), fcntl(2) and OFD locks exclude each other across machines, and end with their holders."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import unittest

from coherence_test import TwoMounts
from harness import need_root_and_fuse, wait_for

# Runs a line of Python at a time and says what came of it: a program of its own, with its own locks.
WORKER = r"""
import errno, fcntl, os, signal, struct, sys
signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError(errno.EINTR, "signal")))
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
def pack(kind, first, length):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, first, length, 0)
def posix(fd, kind, first=0, length=0, wait=False):
    fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, pack(kind, first, length))
def ofd(fd, kind, first=0, length=0, wait=False):
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, pack(kind, first, length))
def who(fd, kind, first=0, length=0):
    found = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, pack(kind, first, length)))
    return "free" if found[0] == fcntl.F_UNLCK else (found[0], found[2], found[3])
R, W, U = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
names = globals()
print("ready", flush=True)
for line in sys.stdin:
    try:
        try:
            answer = repr(eval(line, names))
        except SyntaxError:
            exec(line, names)
            answer = "None"
    except OSError as error:
        answer = errno.errorcode[error.errno]
    print(answer, flush=True)
"""


class Worker:
    """A process with a file of a mount open; `os.open` flags as given."""

    def __init__(self, mount, name, flags="os.O_RDWR | os.O_CREAT"):
        self.process = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.answer(60) == "ready"
        self.path = os.path.join(mount, name)
        self.run(f"fd = os.open({self.path!r}, {flags}, 0o644)")

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=60):
        """None: there is none yet."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().strip() if ready else None

    def run(self, line, seconds=60):
        self.send(line)
        answer = self.answer(seconds)
        assert answer is not None, f"no answer to {line}"
        return answer

    def is_blocked(self):
        return self.answer(0.4) is None

    def interrupt(self):
        self.process.send_signal(signal.SIGUSR1)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self, abort):
        """What hangs in a mount after a failure is cut off."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                abort()
                self.process.wait()
        self.process.stdout.close()


class LocksTest(unittest.TestCase):
    cluster = None

    @classmethod
    def setUpClass(cls):
        need_root_and_fuse()

    def cluster_of(self, **options):
        self.cluster = self.enterContext(TwoMounts(chunkservers=1, **options))
        return self.cluster

    def worker(self, mount, name, flags="os.O_RDWR | os.O_CREAT"):
        worker = Worker(mount, name, flags)
        self.addCleanup(worker.close, self.cluster.abort)
        return worker

    def test_locks_of_two_mounts(self):
        cluster = self.cluster_of()
        with self.subTest("posix ranges exclude each other, and F_GETLK names them"):
            a, b = self.worker(cluster.a, "ranges"), self.worker(cluster.b, "ranges")
            self.assertEqual(a.run("posix(fd, W, 0, 10)"), "None")
            self.assertEqual(b.run("posix(fd, R, 5, 10)"), "EAGAIN")
            self.assertEqual(b.run("posix(fd, W, 10, 10)"), "None")
            self.assertEqual(b.run("who(fd, R, 0, 0)"), "(1, 0, 10)")
            self.assertEqual(a.run("who(fd, R, 0, 0)"), "(1, 10, 10)")
            self.assertEqual(a.run("posix(fd, U, 0, 5)"), "None")
            self.assertEqual(b.run("posix(fd, R, 0, 5)"), "None")
            self.assertEqual(b.run("posix(fd, R, 4, 2)"), "EAGAIN")
            self.assertEqual(b.run("who(fd, R, 20, 0)"), "'free'")
        with self.subTest("shared locks go together; an upgrade waits for the others"):
            a, b = self.worker(cluster.a, "shared"), self.worker(cluster.b, "shared")
            self.assertEqual(a.run("posix(fd, R)"), "None")
            self.assertEqual(b.run("posix(fd, R)"), "None")
            a.send("posix(fd, W, wait=True)")
            self.assertTrue(a.is_blocked())
            self.assertEqual(b.run("posix(fd, W, wait=True)"), "EDEADLOCK")  # as Python calls EDEADLK
            self.assertEqual(b.run("posix(fd, U)"), "None")
            self.assertEqual(a.answer(), "None")
            self.assertEqual(b.run("posix(fd, R)"), "EAGAIN")
        with self.subTest("flock, another space, and its conversion"):
            a, b = self.worker(cluster.a, "whole"), self.worker(cluster.b, "whole", "os.O_RDONLY")
            self.assertEqual(a.run("fcntl.flock(fd, EX)"), "None")
            self.assertEqual(b.run("fcntl.flock(fd, SH | NB)"), "EAGAIN")
            self.assertEqual(b.run("posix(fd, R)"), "None")
            self.assertEqual(a.run("fcntl.flock(fd, SH)"), "None")
            self.assertEqual(b.run("fcntl.flock(fd, SH | NB)"), "None")
            self.assertEqual(a.run("fcntl.flock(fd, EX | NB)"), "EAGAIN")
            self.assertEqual(b.run("fcntl.flock(fd, EX | NB)"), "None", "the failed conversion lost the old lock, as flock(2) says")
        with self.subTest("closing any descriptor of the file releases a process's posix locks"):
            a, b = self.worker(cluster.a, "close"), self.worker(cluster.b, "close")
            self.assertEqual(a.run("posix(fd, W)"), "None")
            self.assertEqual(a.run(f"other = os.open({a.path!r}, os.O_RDONLY)"), "None")
            self.assertEqual(b.run("posix(fd, W)"), "EAGAIN")
            self.assertEqual(a.run("os.close(other)"), "None")
            self.assertEqual(b.run("posix(fd, W)"), "None")
        with self.subTest("flock and OFD locks last until the last descriptor of the open file is closed"):
            a, b = self.worker(cluster.a, "last"), self.worker(cluster.b, "last")
            self.assertEqual(a.run("copy = os.dup(fd)"), "None")
            self.assertEqual(a.run("fcntl.flock(fd, EX)"), "None")
            self.assertEqual(a.run("ofd(fd, W, 0, 5)"), "None")
            self.assertEqual(a.run("os.close(fd)"), "None")
            self.assertEqual(b.run("fcntl.flock(fd, EX | NB)"), "EAGAIN")
            self.assertEqual(b.run("ofd(fd, W, 4, 5)"), "EAGAIN")
            self.assertEqual(a.run("os.close(copy)"), "None")
            self.assertEqual(b.run("fcntl.flock(fd, EX)"), "None")
            self.assertEqual(b.run("ofd(fd, W, 4, 5, wait=True)"), "None")
        with self.subTest("a killed process loses its locks, also one taken through a descriptor for reading"):
            a, b = self.worker(cluster.a, "killed"), self.worker(cluster.b, "killed")
            self.assertEqual(a.run("posix(fd, W, 0, 5)"), "None")
            self.assertEqual(a.run("fcntl.flock(fd, EX)"), "None")
            reader = self.worker(cluster.a, "killed", "os.O_RDONLY")
            self.assertEqual(reader.run("posix(fd, R, 100, 5)"), "None")
            b.send("posix(fd, W, 0, 0, wait=True)")
            self.assertTrue(b.is_blocked())
            a.kill()
            self.assertTrue(b.is_blocked())
            reader.kill()
            self.assertEqual(b.answer(), "None")
            self.assertEqual(b.run("fcntl.flock(fd, EX)"), "None")
        with self.subTest("a blocked wait ends at once when it is granted"):
            a, b = self.worker(cluster.a, "push"), self.worker(cluster.b, "push")
            slowest = 0.0
            for _ in range(5):
                self.assertEqual(a.run("posix(fd, W)"), "None")
                b.send("posix(fd, W, wait=True)")
                self.assertTrue(b.is_blocked())
                begun = time.monotonic()
                self.assertEqual(a.run("posix(fd, U)"), "None")
                self.assertEqual(b.answer(), "None")
                slowest = max(slowest, time.monotonic() - begun)
                self.assertEqual(b.run("posix(fd, U)"), "None")
            self.assertLess(slowest, 1.5, "the push, not the question every two seconds")
        with self.subTest("a signal ends a wait and leaves no lock behind"):
            a, b, c = self.worker(cluster.a, "signal"), self.worker(cluster.b, "signal"), self.worker(cluster.a, "signal")
            for lock, unlock in (("posix(fd, W, wait=True)", "posix(fd, U)"), ("fcntl.flock(fd, EX)", "fcntl.flock(fd, UN)")):
                self.assertEqual(a.run(lock), "None")
                b.send(lock)
                self.assertTrue(b.is_blocked())
                b.interrupt()
                self.assertEqual(b.answer(), "EINTR")
                self.assertEqual(a.run(unlock), "None")
                self.assertEqual(c.run(lock, 10), "None", "nobody has it")
                self.assertEqual(c.run(unlock), "None")
            self.assertEqual(a.run("posix(fd, W)"), "None")
            b.send("posix(fd, W, wait=True)")
            self.assertTrue(b.is_blocked())
            b.kill()
            self.assertEqual(a.run("posix(fd, U)"), "None")
            self.assertEqual(c.run("posix(fd, W, wait=True)", 10), "None", "nor after SIGKILL")
        with self.subTest("what was written under a lock is seen under the next"):
            a, b = self.worker(cluster.a, "counter"), self.worker(cluster.b, "counter")
            step = "[(posix(fd, W, wait=True), os.pwrite(fd, b'%08d' % (int(os.pread(fd, 8, 0) or b'0') + 1), 0), posix(fd, U)) for _ in range(40)] and 'done'"
            a.send(step)
            b.send(step)
            self.assertEqual((a.answer(), b.answer()), ("'done'", "'done'"))
            self.assertEqual(a.run("int(os.pread(fd, 8, 0))"), "80")

    def test_a_killed_mount_gives_its_locks_back_with_its_session(self):
        cluster = self.cluster_of(metaserver_options=["--session-lease-ms", "1000"])
        a, b = self.worker(cluster.a, "f"), self.worker(cluster.b, "f")
        self.assertEqual(a.run("posix(fd, W)"), "None")
        self.assertEqual(a.run("fcntl.flock(fd, EX)"), "None")
        self.assertEqual(b.run("posix(fd, W)"), "EAGAIN")
        b.send("posix(fd, W, wait=True)")
        self.assertTrue(b.is_blocked())
        os.kill(cluster.daemon(cluster.a), signal.SIGKILL)
        self.assertEqual(b.answer(60), "None")
        self.assertEqual(b.run("fcntl.flock(fd, EX | NB)"), "None")

    def test_who_lost_its_lock_is_told(self):
        cluster = self.cluster_of(metaserver_options=["--session-lease-ms", "1000"])
        a, b = self.worker(cluster.a, "f"), self.worker(cluster.b, "f")
        self.assertEqual(a.run("posix(fd, W)"), "None")
        self.assertEqual(a.run("os.pwrite(fd, b'x', 0)"), "1")
        daemon = cluster.daemon(cluster.a)
        os.kill(daemon, signal.SIGSTOP)
        try:
            self.assertEqual(b.run("posix(fd, W, wait=True)", 60), "None")
            self.assertEqual(b.run("os.pwrite(fd, b'y', 0)"), "1")
        finally:
            os.kill(daemon, signal.SIGCONT)
        wait_for(lambda: a.run("os.pwrite(fd, b'z', 0)") == "EIO", 30, "the writer hears that its lock is gone")
        self.assertEqual(a.run("posix(fd, W, 100, 5)"), "EIO")
        self.assertEqual(b.run("os.pread(fd, 9, 0)"), "b'y'")
        self.assertEqual(a.run("posix(fd, U)"), "EIO")
        self.assertEqual(b.run("posix(fd, U)"), "None")
        self.assertEqual(a.run("posix(fd, W)"), "None", "it may begin anew")
        self.assertEqual(a.run("os.pwrite(fd, b'z', 0)"), "1")

    def test_locks_and_waits_survive_the_leader(self):
        cluster = self.cluster_of(metaservers=3)
        a, b, c = self.worker(cluster.a, "f"), self.worker(cluster.b, "f"), self.worker(cluster.b, "g")
        self.assertEqual(a.run("posix(fd, W)"), "None")
        self.assertEqual(a.run(f"other = os.open({os.path.join(cluster.a, 'g')!r}, os.O_RDWR)"), "None")
        self.assertEqual(a.run("fcntl.flock(other, EX)"), "None")
        b.send("posix(fd, W, wait=True)")
        c.send("fcntl.flock(fd, EX)")
        self.assertTrue(b.is_blocked())
        self.assertTrue(c.is_blocked())
        leader = cluster.leader()
        cluster.kill(leader)
        wait_for(cluster.leader, 30, "another leader")
        self.assertTrue(b.is_blocked(), "the new leader has the lock")
        self.assertTrue(c.is_blocked())
        c.interrupt()
        self.assertEqual(c.answer(), "EINTR")
        self.assertEqual(a.run("posix(fd, U)"), "None")
        self.assertEqual(b.answer(), "None")
        self.assertEqual(a.run("posix(fd, W)"), "EAGAIN")
        cluster.start(leader)

    def test_local_locks(self):
        cluster = self.cluster_of()
        local = os.path.join(cluster.top, "mnt-2")
        os.mkdir(local)
        cluster.tarn("mount", "default", local, "-o", "local_locks")
        self.addCleanup(subprocess.run, ["umount", "-l", local], check=False)
        a, b, c = self.worker(cluster.a, "f"), self.worker(local, "f"), self.worker(local, "f")
        self.assertEqual(a.run("posix(fd, W)"), "None")
        self.assertEqual(b.run("posix(fd, W)"), "None", "this mount's locks are its own")
        self.assertEqual(c.run("posix(fd, W)"), "EAGAIN")
        for worker in (b, c):
            worker.run("os.close(fd)")


if __name__ == "__main__":
    unittest.main(verbosity=2)
