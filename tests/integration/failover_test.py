"""The metadata group under failures: members killed, stopped, cut off, full, wiped and replaced while applications work."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import unittest

from harness import BIN, Cluster, has_ended, need_root_and_fuse, pids_of, run, wait_for, wait_for_end


class Namespace:
    """One application: creates, renames and unlinks in a directory of its own, and knows what must be there.

    Every error is wrong: nobody else touches the directory, and the file system promises to hide the fail-over.
    """

    def __init__(self, top, number):
        self.folder = os.path.join(top, f"client-{number}")
        self.chooser = random.Random(number)
        self.names = set()
        self.acknowledged = 0
        self.longest_s = 0.0
        self.errors = []

    def run(self, stop):
        try:
            os.mkdir(self.folder)
            while not stop.is_set():
                began = time.monotonic()
                self.step()
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.acknowledged += 1
        except OSError as error:
            self.errors.append(f"{self.folder}: {errno.errorcode.get(error.errno)} {error}")

    def step(self):
        kind = self.chooser.random()
        if kind < 0.5 or len(self.names) < 5:
            name = f"f{self.acknowledged}"
            os.close(os.open(os.path.join(self.folder, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            self.names.add(name)
        elif kind < 0.75:
            old = self.chooser.choice(sorted(self.names))
            new = f"r{self.acknowledged}"
            os.rename(os.path.join(self.folder, old), os.path.join(self.folder, new))
            self.names.remove(old)
            self.names.add(new)
        else:
            name = self.chooser.choice(sorted(self.names))
            os.unlink(os.path.join(self.folder, name))
            self.names.remove(name)

    def differences(self):
        found = set(os.listdir(self.folder))
        return [f"{self.folder}: lost {name}" for name in sorted(self.names - found)] + [
            f"{self.folder}: too many {name}" for name in sorted(found - self.names)
        ]


class Load:
    """Several applications on two mounts, and one that uses the client library through `tarn put` and `tarn rm`."""

    def __init__(self, cluster, clients=4):
        self.cluster = cluster
        self.stopping = threading.Event()
        mounts = [cluster.mount_point, cluster.second_mount()]
        self.clients = [Namespace(mounts[i % 2], i) for i in range(clients)]
        self.puts = 0
        self.errors = []
        self.threads = [threading.Thread(target=client.run, args=(self.stopping,), daemon=True) for client in self.clients]
        self.threads.append(threading.Thread(target=self.put_and_remove, daemon=True))

    def put_and_remove(self):
        source = os.path.join(self.cluster.top, "source")
        os.makedirs(source, exist_ok=True)
        for i in range(10):
            with open(f"{source}/file-{i}", "wb") as file:
                file.write(bytes([i]) * 1000)
        while not self.stopping.is_set():
            name = f"put-{self.puts}"
            for arguments in (["put", f"{source}/", f"default:/{name}/"], ["rm", "-r", f"default:/{name}"]):
                done = self.cluster.tarn(*arguments, check=False)
                if done.returncode != 0:
                    self.errors.append(f"tarn {' '.join(arguments)}: {done.stderr}")
                    return
            self.puts += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def progress(self, seconds=30):
        """Every application gets something done: the group serves."""
        before = [client.acknowledged for client in self.clients]
        wait_for(lambda: all(c.acknowledged > b + 3 or c.errors for c, b in zip(self.clients, before)), seconds, "every client goes on")

    def verify(self, test):
        test.assertEqual([], [error for client in self.clients for error in client.errors] + self.errors)
        test.assertFalse(any(thread.is_alive() for thread in self.threads), "an application hangs")
        self.cluster.remount()
        test.assertEqual([], [line for client in self.clients for line in client.differences()])
        test.assertGreater(min(client.acknowledged for client in self.clients), 10)
        left = [name for name in os.listdir(self.cluster.mount_point) if name.startswith("put-")]
        test.assertEqual([], left, "a removed tree is still there")


class FailoverTest(unittest.TestCase):
    def setUp(self):
        need_root_and_fuse()

    def test_leader_killed_again_and_again(self):
        with Cluster(metaservers=3) as cluster, Load(cluster) as load:
            for _ in range(4):
                load.progress()
                leader = cluster.leader()
                cluster.kill(leader)
                load.progress()
                cluster.start(leader)
                cluster.wait_for_group(voters=3)
            load.__exit__()
            load.verify(self)

    def test_all_members_killed_before_they_have_saved_anything(self):
        """Their state is in the log only, also where the others are; and they are told nothing when they start."""
        with Cluster(metaservers=3) as cluster:
            os.mkdir(f"{cluster.mount_point}/before")
            names = cluster.names("metaserver")
            for name in names:
                cluster.kill(name)

            def forget_to_join(config):
                for server in config["servers"]:
                    if "--join" in server["command"]:
                        at = server["command"].index("--join")
                        del server["command"][at:at + 2]

            cluster.edit_config(forget_to_join)
            cluster.started += cluster.commands()
            for name in names:
                cluster.start(name)
            cluster.wait_for_group(voters=3)
            self.assertTrue(os.path.isdir(f"{cluster.mount_point}/before"))

    def test_replies_are_lost_late_or_repeated_while_leaders_die(self):
        """tests/exactly_once has every operation; here it is a mount with its kernel, over many of them."""
        with Cluster(metaservers=3) as cluster:
            cluster.arm_faults("metaserver", "meta.drop_reply=probability:0.002:1", "meta.lose_reply=probability:0.02:2",
                               "meta.delay_reply=probability:0.02:3", "meta.repeat_reply=probability:0.1:4")
            with Load(cluster) as load:
                for _ in range(3):
                    load.progress(60)
                    leader = cluster.leader()
                    cluster.kill(leader)
                    load.progress(60)
                    cluster.start(leader)
                    cluster.wait_for_group(voters=3)
                load.__exit__()
                load.verify(self)
            for what in ("drop", "lose", "delay", "repeat"):
                self.assertIn(f"planted: meta.{what}_reply", cluster.logs("metaserver"))

    def test_stopped_leader_is_replaced_and_does_not_serve_when_it_wakes(self):
        with Cluster(metaservers=3) as cluster, Load(cluster) as load:
            for _ in range(2):
                load.progress()
                leader = cluster.leader()
                cluster.kill(leader, signal.SIGSTOP)
                load.progress()
                self.assertEqual("degraded", wait_for(lambda: cluster.status_if("degraded"), 30, "a silent voter shows")["health"])
                self.assertNotEqual(leader, cluster.leader())
                cluster.kill(leader, signal.SIGCONT)
                load.progress()
                cluster.wait_for_group(voters=3)
            load.__exit__()
            load.verify(self)

    def test_leader_that_is_told_to_stop_hands_over(self):
        with Cluster(metaservers=3) as cluster, Load(cluster) as load:
            load.progress()
            leader = cluster.leader()
            cluster.kill(leader, signal.SIGTERM)
            load.progress()
            self.assertNotIn("could not be handed over", cluster.logs(leader))
            cluster.start(leader)
            cluster.wait_for_group(voters=3)
            cluster.tarn("meta", "transfer", cluster.member_id(leader))
            self.assertEqual(leader, cluster.leader())
            load.progress()
            load.__exit__()
            load.verify(self)

    def test_wiped_follower_joins_again_and_replaces_itself(self):
        with Cluster(metaservers=3) as cluster, Load(cluster) as load:
            load.progress()
            victim = next(name for name in cluster.names("metaserver") if name not in (cluster.leader(), "metaserver-1"))
            old_id = cluster.member_id(victim)
            cluster.kill(victim)
            shutil.rmtree(f"{cluster.directory}/{victim}")
            load.progress()
            cluster.start(victim)
            # Until the newcomer has asked, its former self still counts as a voter that was heard of lately.
            wait_for(lambda: cluster.member_id(victim) != old_id, 60, "a new number for a member that forgot its votes")
            cluster.wait_for_group(voters=3)
            # It counts: with another one away the group still has a majority.
            other = next(name for name in cluster.names("metaserver") if name not in (victim, cluster.leader()))
            cluster.kill(other)
            load.progress()
            cluster.start(other)
            cluster.wait_for_group(voters=3)
            load.__exit__()
            load.verify(self)

    def test_leader_dies_while_it_sends_a_checkpoint(self):
        """The one who needs the checkpoint is needed to elect another leader: it fetches it from the third."""
        with Cluster(metaservers=3) as cluster, Load(cluster, clients=6) as load:
            leader = cluster.leader()
            behind = next(name for name in ("metaserver-1", "metaserver-2") if name != leader)
            cluster.kill(behind)
            # So many changes that the log is trimmed meanwhile.
            before = sum(client.acknowledged for client in load.clients)
            wait_for(lambda: sum(client.acknowledged for client in load.clients) > before + 18_000, 180, "enough changes")
            log = f"{cluster.directory}/log/{behind}.log"
            size = os.path.getsize(log)

            def fetches():
                with open(log) as file:
                    file.seek(size)
                    return "fetches a checkpoint" in file.read()

            cluster.start(behind)
            deadline = time.monotonic() + 30
            while not fetches():
                self.assertLess(time.monotonic(), deadline, "no checkpoint is fetched")
                time.sleep(0.002)
            cluster.kill(leader)
            load.progress(15)
            cluster.start(leader)
            cluster.wait_for_group(voters=3)
            load.__exit__()
            load.verify(self)

    def test_member_is_added_and_removed(self):
        with Cluster(metaservers=3) as cluster, Load(cluster, clients=2) as load:
            load.progress()
            addresses = ",".join(member["address"] for member in cluster.members())
            extra = subprocess.Popen([f"{BIN}/tarn-metaserver", "--dir", f"{cluster.top}/extra", "--listen", "127.0.0.1:0", "--join", addresses,
                                      "--log-file", f"{cluster.directory}/log/extra.log"])
            try:
                cluster.wait_for_group(voters=4)
                self.assertIn("even number", " ".join(cluster.tarn_json("status")["problems"]))
                new_id = str(max(member["id"] for member in cluster.members()))
                cluster.tarn("meta", "remove", new_id)
                cluster.wait_for_group(voters=3)
                extra.wait(30)
                self.assertIn("was removed from the group", cluster.logs("extra"))
            finally:
                extra.kill()
                extra.wait()
            load.progress()
            # A leader that is removed steps aside first.
            leader = cluster.leader()
            cluster.tarn("meta", "remove", cluster.member_id(leader))
            cluster.wait_for_group(voters=2)
            load.progress()
            load.__exit__()
            load.verify(self)

    def test_without_a_majority_nothing_is_served_and_nothing_is_lost(self):
        with Cluster(metaservers=3) as cluster:
            os.mkdir(f"{cluster.mount_point}/before")
            leader = cluster.leader()
            followers = [name for name in cluster.names("metaserver") if name != leader]
            for name in followers:
                cluster.kill(name)
            done = wait_for(lambda: self.unavailable(cluster), 30, "the lone member gives up its lead")
            self.assertEqual("unavailable", done["health"])
            for name in followers:
                cluster.start(name)
            cluster.wait_for_group(voters=3)
            self.assertTrue(os.path.isdir(f"{cluster.mount_point}/before"))
            os.mkdir(f"{cluster.mount_point}/after")

    @staticmethod
    def unavailable(cluster):
        done = cluster.tarn("status", "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 1 else None

    def test_full_disk_of_the_leader(self):
        with Cluster(metaservers=3, prepare=self.put_on_image) as cluster:
            try:
                self.check_full_disk(cluster)
            finally:
                cluster.down()
                run(["umount", f"{cluster.directory}/metaserver-2"], check=False)

    @staticmethod
    def put_on_image(cluster):
        image = f"{cluster.top}/image"
        folder = f"{cluster.directory}/metaserver-2"
        os.makedirs(folder)
        with open(image, "wb") as file:
            file.truncate(400 << 20)
        run(["mkfs.ext4", "-q", "-F", image])
        run(["mount", "-o", "loop", image, folder])

    def check_full_disk(self, cluster):
        cluster.tarn("meta", "transfer", cluster.member_id("metaserver-2"))
        with Load(cluster, clients=2) as load:
            load.progress()
            pids = pids_of(cluster.command("metaserver-2"))
            ballast = f"{cluster.directory}/metaserver-2/ballast"

            def leave(mebibytes):
                free = shutil.disk_usage(os.path.dirname(ballast)).free
                size = os.path.getsize(ballast) if os.path.exists(ballast) else 0
                run(["fallocate", "-l", str(size + free - (mebibytes << 20)), ballast])

            # Nearly full: it goes on, but does not lead.
            leave(30)
            wait_for(lambda: cluster.leader() not in (None, "metaserver-2"), 30, "another leader")
            load.progress()
            self.assertFalse(any(has_ended(pid) for pid in pids))
            self.assertRegex(cluster.logs("metaserver-2"), "nearly full")
            leave(6)
            wait_for_end(pids, "the server whose disk is full")
            load.progress()
            self.assertNotEqual("metaserver-2", cluster.leader())
            self.assertRegex(cluster.logs("metaserver-2"), r"(?i)(disk|space)")
            os.unlink(ballast)
            cluster.start("metaserver-2")
            cluster.wait_for_group(voters=3)
            load.__exit__()
            load.verify(self)


if __name__ == "__main__":
    unittest.main(verbosity=2)
