#!/usr/bin/env python3
"""How long a client waits when the leader of the metadata group is killed.

Usage: bench/failover.py [--bin build/release/bin] [--kills 30] [--metaservers 3] [--stop] [--json]

Runs unattended, about five seconds a kill, with a line for each on stderr; what was measured is printed even if a later kill goes wrong.

Starts a cluster of its own, lets several threads create and unlink files on a mount, and kills the leader again and again (--stop: stops it
with SIGSTOP, which nobody's connection notices). The pause of a fail-over is the longest gap between two acknowledged operations of any
one thread around it. The member comes back before the next one is killed.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time

from programs import add_bin

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "integration"))


class Client(threading.Thread):
    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder = folder
        self.stopping = threading.Event()
        self.longest_s = 0.0
        self.operations = 0
        self.error = None
        os.mkdir(folder)

    def run(self):
        last = time.monotonic()
        try:
            while not self.stopping.is_set():
                path = os.path.join(self.folder, f"file-{self.operations}")
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.unlink(path)
                now = time.monotonic()
                self.longest_s = max(self.longest_s, now - last)
                last = now
                self.operations += 1
        except OSError as error:
            self.error = error

    def take_longest(self):
        longest, self.longest_s = self.longest_s, 0.0
        return longest


def measure(harness, arguments, pauses, quiet):
    with harness.Cluster(metaservers=arguments.metaservers) as cluster:
        clients = [Client(f"{cluster.mount_point}/client-{i}") for i in range(arguments.clients)]
        for client in clients:
            client.start()
        for number in range(arguments.kills):
            time.sleep(1.5)
            quiet.append(max(client.take_longest() for client in clients))
            leader = cluster.leader()
            [client.take_longest() for client in clients]
            before = [client.operations for client in clients]
            cluster.kill(leader, signal.SIGSTOP if arguments.stop else signal.SIGKILL)
            harness.wait_for(lambda: all(c.operations > b + 10 or c.error for c, b in zip(clients, before)), 60, "the clients go on")
            time.sleep(0.5)
            pauses.append(max(client.take_longest() for client in clients))
            print(f"{number + 1}/{arguments.kills}: {leader}, {pauses[-1]:.3f} s", file=sys.stderr, flush=True)
            errors = [str(client.error) for client in clients if client.error]
            if errors:
                raise SystemExit(f"after {number + 1} kills: {errors}")
            if arguments.stop:
                cluster.kill(leader, signal.SIGCONT)
            else:
                cluster.start(leader)
            cluster.wait_for_group(arguments.metaservers)
        for client in clients:
            client.stopping.set()


def report(pauses, quiet, as_json):
    result = {
        "fail_overs": len(pauses),
        "p50_s": round(statistics.median(pauses), 3),
        "p90_s": round(sorted(pauses)[int(len(pauses) * 0.9)], 3),
        "worst_s": round(max(pauses), 3),
        "undisturbed_worst_s": round(max(quiet), 3),
    }
    print(json.dumps(result) if as_json else "\n".join(f"{name:22} {value}" for name, value in result.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    add_bin(parser)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--metaservers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["TARN_BIN"] = arguments.bin
    import harness  # reads TARN_BIN

    pauses, quiet = [], []
    try:
        measure(harness, arguments, pauses, quiet)
    finally:
        if pauses:
            report(pauses, quiet, arguments.json)


if __name__ == "__main__":
    main()
