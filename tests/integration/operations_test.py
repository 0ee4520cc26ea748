"""Growing, shrinking and space: new servers fill, nodes that are gone are removed, data that nobody knows goes, and the last way out.

Without mounts: files come and go by `tarn put` and `tarn get`.
"""

import itertools
import os
import shutil
import signal
import subprocess
import time
import unittest

from harness import BIN, Cluster, content, tree_digest, wait_for

# Short times where the real ones are minutes and days.
QUICK = ("--session-lease-ms", "1000", "--reclaim-delay-ms", "1000", "--reconcile-interval-ms", "1000", "--orphan-quarantine-ms", "3000")
PATIENT = ("--replace-delay-ms", "3600000")


class OperationsTest(unittest.TestCase):
    def cluster(self, chunkservers=3, replicas=2, options=QUICK):
        cluster = Cluster(chunkservers=chunkservers, replicas=replicas, mounted=False, metaserver_options=options)
        self.addCleanup(cluster.close)
        cluster.__enter__()
        return cluster

    def fill(self, cluster, name="data", files=24, size=400_000):
        """Files of known content at default:/NAME; the local directory that holds the same."""
        top = os.path.join(cluster.top, name)
        os.mkdir(top)
        for i in range(files):
            with open(os.path.join(top, f"f{i}"), "wb") as file:
                file.write(content(f"{name}/{i}", size + i))
        cluster.tarn("put", top + "/", f"default:/{name}")
        return top

    def check(self, cluster, top):
        copy = top + ".copy"
        shutil.rmtree(copy, ignore_errors=True)
        cluster.tarn("get", f"default:/{os.path.basename(top)}/", copy, timeout=240)
        self.assertEqual(tree_digest(top), tree_digest(copy))
        shutil.rmtree(copy)

    def groups_of(self, cluster):
        """How many copies of groups of two each node has."""
        targets = {row["target"]: row["node"] for row in cluster.tarn_json("target", "list")}
        counts = dict.fromkeys(targets.values(), 0)
        for group in cluster.tarn_json("group", "list"):
            if group["replicas"] == 2:
                for target in group["in_sync"]:
                    counts[targets[target]] += 1
        return counts

    def test_a_new_server_gets_its_share_and_then_nothing_moves(self):
        cluster = self.cluster()
        top = self.fill(cluster)
        node = cluster.node_of(cluster.add_chunkserver())

        def at_rest():
            status = cluster.tarn_json("status")
            counts = self.groups_of(cluster)
            return counts.get(node, 0) > 0 and status["rebalance"]["moves_left"] == 0 and max(counts.values()) - min(counts.values()) <= 2

        wait_for(at_rest, 240, f"even numbers of groups: {self.groups_of(cluster)}")
        version = cluster.tarn_json("status")["map_version"]
        self.check(cluster, top)
        time.sleep(8)
        wait_for(lambda: cluster.tarn_json("status")["repair"]["groups_moving"] == 0, 60, "rest")
        self.assertLessEqual(cluster.tarn_json("status")["map_version"] - version, 8, "groups move back and forth")
        # What the old members were left with goes, too.
        wait_for(lambda: cluster.tarn_json("status")["space"]["leftover_bytes"] == 0, 150, "leftovers removed")
        self.check(cluster, top)

    def test_a_node_that_is_gone_is_removed_and_its_copies_are_made_at_once(self):
        cluster = self.cluster(options=QUICK + PATIENT)
        top = self.fill(cluster)
        node = cluster.node_of("chunkserver-2")
        refused = cluster.tarn("node", "remove", node, check=False)
        self.assertEqual(1, refused.returncode, "it answers")
        cluster.kill("chunkserver-2")
        shutil.rmtree(f"{cluster.directory}/chunkserver-2")
        wait_for(lambda: cluster.tarn_json("status")["health"] == "degraded", 60, "the loss to be seen")
        # Another server under the same name, with new disks.
        cluster.start("chunkserver-2")
        wait_for(lambda: any("node remove" in problem for problem in cluster.tarn_json("status")["problems"]), 60, "the old disks to be named")
        cluster.tarn("node", "remove", node)
        cluster.wait_for_health(180)
        self.check(cluster, top)

    def test_data_of_a_put_that_died_is_found_and_deleted(self):
        cluster = self.cluster()
        top = self.fill(cluster)
        # Small enough to be written before they have a name. (A large one has a name of its own until it is whole.)
        source = os.path.join(cluster.top, "source")
        os.mkdir(source)
        for i in range(1500):
            with open(os.path.join(source, f"f{i}"), "wb") as file:
                file.write(content(f"source/{i}", 500_000))
        put = subprocess.Popen([f"{BIN}/tarn", "put", source + "/", "default:/source", "--dir", cluster.directory])
        wait_for(lambda: "f" in cluster.tarn("ls", "default:/source", check=False).stdout, 60, "some of it stored")
        self.assertIsNone(put.poll(), "it had time to end")
        put.send_signal(signal.SIGKILL)
        put.wait()
        # Reserved while the session lives, then in quarantine, then gone.
        wait_for(lambda: cluster.tarn_json("status")["space"]["unknown_bytes"] > 0, 120, "what nobody knows to be found")
        wait_for(lambda: cluster.tarn_json("status")["space"]["unknown_reclaimed_bytes"] > 0, 120, "it to be deleted")
        wait_for(lambda: cluster.tarn_json("status")["space"]["unknown_bytes"] == 0, 120, "all of it")
        # The same command again finds what is there, and makes the rest.
        cluster.tarn("put", source + "/", "default:/source", timeout=120)
        self.check(cluster, source)
        self.check(cluster, top)

    def test_puts_that_go_on_all_the_time_lose_nothing_to_reconciliation(self):
        cluster = self.cluster(options=("--reclaim-delay-ms", "100", "--reconcile-interval-ms", "100", "--orphan-quarantine-ms", "0"))
        tops = []
        ends = time.monotonic() + 25
        for number in itertools.count():
            if time.monotonic() >= ends and len(tops) >= 3:
                break
            tops.append(self.fill(cluster, name=f"round{number}", files=16, size=150_000))
            if number % 3 == 2:
                cluster.tarn("rm", "-r", f"default:/{os.path.basename(tops.pop())}")
        for top in tops:
            self.check(cluster, top)
        self.assertEqual(0, cluster.tarn("fsck", "default", check=False).returncode)

    def test_an_older_copy_is_promoted_when_the_current_ones_are_lost(self):
        cluster = self.cluster(chunkservers=2, replicas=2, options=QUICK + PATIENT)
        old = self.fill(cluster, "old")
        cluster.kill("chunkserver-1")
        new = self.fill(cluster, "new", files=8)
        cluster.kill("chunkserver-2")
        shutil.rmtree(f"{cluster.directory}/chunkserver-2")
        cluster.start("chunkserver-1")

        def promotable():
            return [(group["group"], group["promotable"][0]) for group in cluster.tarn_json("group", "list", "--unhealthy") if group["promotable"]]

        wait_for(lambda: len(promotable()) > 0 and cluster.tarn_json("status")["repair"]["groups_unavailable"] == len(promotable()), 120, "groups with an older copy only")
        group, target = promotable()[0]
        refused = cluster.tarn("group", "promote", str(group), str(target), check=False)
        self.assertEqual(1, refused.returncode)
        self.assertIn("accept-data-loss", refused.stderr)
        for group, target in promotable():
            cluster.tarn("group", "promote", str(group), str(target), "--accept-data-loss")
        wait_for(lambda: cluster.tarn_json("status")["repair"]["groups_unavailable"] == 0, 60, "groups that go on")
        status = cluster.tarn_json("status")
        self.assertGreater(len(status["forced_promotions"]), 0)
        again = cluster.tarn("group", "promote", str(group), str(target), "--accept-data-loss", check=False)
        self.assertEqual(1, again.returncode, "it is not needed any more")
        # What was there before the loss is read, and new files are taken.
        self.check(cluster, old)
        self.check(cluster, self.fill(cluster, "newer", files=4))
        self.assertNotEqual(0, cluster.tarn("fsck", "default", check=False).returncode, "what was lost is named")
        del new


if __name__ == "__main__":
    unittest.main()
