"""Real processes and real mounts for the integration tests.

A Cluster is a `tarn dev` cluster in a temporary directory. Everything a test starts is stopped and everything it mounts is unmounted by
`close`, also after a failure. The programs come from the directory in TARN_BIN (ctest sets it).
"""

import contextlib
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BIN = os.environ.get("TARN_BIN", "")


def need_root_and_fuse():
    """Skips a test, with the reason, where no FUSE mount can be made."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")
    if not os.path.exists("/dev/fuse"):
        raise unittest.SkipTest("needs /dev/fuse")


def wait_for(condition, seconds, what):
    """Polls until the condition holds; a time bound of a test is generous, it only ends what would hang. `what`: a text, or what makes it
    when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        threading.Event().wait(0.02)


def run(command, timeout=120, check=True, **kwargs):
    done = subprocess.run(command, timeout=timeout, capture_output=True, text=True, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def tree_digest(top):
    """Names, kinds, sizes, modes, mtimes, link targets and contents of a tree, as a dictionary."""
    result = {}
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, top)
            status = os.lstat(path)
            if os.path.islink(path):
                result[key] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                result[key] = ("directory", status.st_mode, status.st_mtime_ns)
            elif not os.path.isfile(path):
                result[key] = ("special", status.st_mode)  # opening a pipe would wait for its other end
            else:
                with open(path, "rb") as file:
                    result[key] = ("file", status.st_mode, status.st_mtime_ns, hashlib.sha256(file.read()).hexdigest())
    return result


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def pids_of(command):
    wanted = b"\0".join(os.fsencode(word) for word in command) + b"\0"
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read() == wanted:
                    found.append(int(entry))
    return found


def has_ended(pid):
    """Gone or a zombie: only then are its files and ports free (its command line is empty some time before)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def wait_for_end(pids, what):
    wait_for(lambda: all(has_ended(pid) for pid in pids), 60, f"the end of {what}")


def content(seed, size):
    """Repeatable bytes: a file's contents follow from its name."""
    return random.Random(seed).randbytes(size)


class Cluster:
    def __init__(self, chunkservers=3, directory=None, mounted=True, metaservers=1, prepare=None, replicas=1, metaserver_options=(), elastic_chunkservers=0):
        self.top = tempfile.mkdtemp(prefix="tarn-test-")
        self.directory = directory or os.path.join(self.top, "cluster")
        self.mount_point = os.path.join(self.top, "mnt")
        self.chunkservers = chunkservers
        self.elastic_chunkservers = elastic_chunkservers
        self.metaservers = metaservers
        self.replicas = replicas
        self.metaserver_options = list(metaserver_options)  # of every metadata server
        self.prepare = prepare  # is called with the cluster before its first start
        self.mounted = mounted
        self.started = []  # command lines, for a clean-up that cannot read cluster.json any more
        os.mkdir(self.mount_point)
        os.chmod(self.top, 0o755)  # other users are to reach the mount
        # Servers are restarted by a shell that was there before any file on the mount was open: a child of this process would close
        # inherited descriptors before it becomes the server, and so wait for the very server it is to become.
        self.launcher = subprocess.Popen(["bash"], stdin=subprocess.PIPE, text=True, cwd="/")

    def __enter__(self):
        try:
            if self.prepare:
                self.prepare(self)
            self.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def tarn(self, *arguments, check=True, timeout=120):
        return run([f"{BIN}/tarn", *arguments, "--dir", self.directory], check=check, timeout=timeout)

    def tarn_json(self, *arguments):
        return json.loads(self.tarn(*arguments, "--json").stdout)

    def up(self, *extra):
        arguments = ["dev", "up", *extra]
        if not os.path.exists(f"{self.directory}/cluster.json"):
            arguments += ["--chunkservers", str(self.chunkservers), "--metaservers", str(self.metaservers), "--replicas", str(self.replicas)]
            if self.elastic_chunkservers:
                arguments += ["--elastic-chunkservers", str(self.elastic_chunkservers)]
        if self.mounted:
            arguments += ["--mount", self.mount_point]
        try:
            self.tarn(*arguments)
            if self.metaserver_options:
                options, self.metaserver_options = self.metaserver_options, []
                self.give_options("metaserver", *options)
        finally:
            with contextlib.suppress(OSError):
                self.started += self.commands()

    def down(self):
        self.tarn("dev", "down")

    def close(self):
        with contextlib.suppress(Exception):
            if os.path.exists(f"{self.directory}/cluster.json"):
                self.tarn("dev", "down", check=False, timeout=90)
        # `dev down` is itself under test: whatever it may have left goes here.
        for command in self.started:
            for pid in pids_of(command):
                os.kill(pid, signal.SIGKILL)
        self.launcher.stdin.close()
        self.launcher.wait()
        for mount_point in (self.mount_point, f"{self.top}/mnt-2"):
            # Without servers a client would go on trying for a while.
            for pid in self.client_pids(mount_point):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run(["umount", "-l", mount_point], check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def config(self):
        with open(f"{self.directory}/cluster.json") as file:
            return json.load(file)

    def edit_config(self, change):
        config = self.config()
        change(config)
        with open(f"{self.directory}/cluster.json", "w") as file:
            json.dump(config, file)

    def arm_faults(self, prefix, *faults):
        """Starts the cluster again, its servers of that name with fault points armed."""
        self.down()

        def add(config):
            for server in config["servers"]:
                if server["name"].startswith(prefix):
                    server["command"] += ["--allow-faults", "--fault", ",".join(faults)]

        self.edit_config(add)
        self.up()
        assert "fault points are armed" in self.logs(prefix)

    def give_options(self, prefix, *options):
        """Starts the cluster again, its servers of that name with more options."""
        self.down()

        def add(config):
            for server in config["servers"]:
                if server["name"].startswith(prefix):
                    server["command"] += options

        self.edit_config(add)
        self.up()

    def add_chunkserver(self):
        """A new chunk server on a node of its own, as if an autoscaler had added one; `dev down` stops it, too. Its name."""
        config = self.config()
        number = 1 + max(int(name.rsplit("-", 1)[1]) for name in self.names("chunkserver"))
        name = f"chunkserver-{number}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % free.getsockname()[1]
        template = next(server for server in config["servers"] if server["name"] == "chunkserver-1")
        changes = {
            template["address"]: address,
            f"{self.directory}/chunkserver-1": f"{self.directory}/{name}",
            "dev-1": f"dev-{number}",
            f"{self.directory}/log/chunkserver-1.log": f"{self.directory}/log/{name}.log",
        }
        command = [changes.get(word, word) for word in template["command"]]
        self.started.append(command)

        def add(config):
            config["servers"].append({"name": name, "address": address, "command": command})
            config["chunkservers"] += 1

        self.edit_config(add)
        self.start(name)
        return name

    def forget_chunkserver(self, name):
        """A server that was stopped for good: `dev up` does not start it any more."""

        def remove(config):
            config["servers"] = [server for server in config["servers"] if server["name"] != name]
            config["chunkservers"] -= 1

        self.edit_config(remove)

    def node_of(self, name):
        command = self.command(name)
        return command[command.index("--node") + 1]

    def wait_for_health(self, seconds=120, health="ok"):
        def what():
            return f"health {health}: {self.tarn('status', check=False).stdout}{self.tarn('group', 'list', '--unhealthy', check=False).stdout}"

        return wait_for(lambda: self.status_if(health), seconds, what)

    def command(self, name):
        return next(server["command"] for server in self.config()["servers"] if server["name"] == name)

    def names(self, prefix=""):
        return [server["name"] for server in self.config()["servers"] if server["name"].startswith(prefix)]

    def kill(self, name, how=signal.SIGKILL):
        pids = pids_of(self.command(name))
        assert pids, f"{name} does not run"
        for pid in pids:
            os.kill(pid, how)
        if how in (signal.SIGKILL, signal.SIGTERM):
            wait_for_end(pids, name)

    def start(self, name):
        """As a supervisor would: the recorded command line, from anywhere, with nothing inherited."""
        command = " ".join(shlex.quote(word) for word in self.command(name))
        log = shlex.quote(f"{self.directory}/log/{name}.out")
        self.launcher.stdin.write(f"env -i setsid {command} </dev/null >>{log} 2>&1 &\n")
        self.launcher.stdin.flush()

    def second_mount(self):
        """Another client of the same volume."""
        path = os.path.join(self.top, "mnt-2")
        if not os.path.ismount(path):
            os.makedirs(path, exist_ok=True)
            self.tarn("mount", "default", path)
        return path

    def members(self):
        """The metadata group as its leader sees it; empty while none leads."""
        done = self.tarn("meta", "list", "--json", check=False)
        return json.loads(done.stdout)["metaservers"] if done.returncode == 0 else []

    def _server_at(self, address):
        return next((server["name"] for server in self.config()["servers"] if server["address"] == address), None)

    def leader(self):
        """The name of the server that leads."""
        return wait_for(lambda: next((self._server_at(m["address"]) for m in self.members() if m["role"] == "leader"), None), 30, "a leader")

    def member_id(self, name):
        """The youngest member at the server's address, as the command line takes it."""
        address = next(server["address"] for server in self.config()["servers"] if server["name"] == name)
        return str(max(member["id"] for member in self.members() if member["address"] == address))

    def status_if(self, health):
        done = self.tarn("status", "--json", check=False)
        status = json.loads(done.stdout) if done.stdout else {}
        return status if status.get("health") == health else None

    def wait_for_group(self, voters):
        """All members vote and answer, and there are so many."""

        def is_complete():
            roles = [member["role"] for member in self.members()]
            return len(roles) == voters and sorted(roles) == ["follower"] * (voters - 1) + ["leader"]

        wait_for(is_complete, 60, f"{voters} metadata servers that vote")

    def kill_and_restart(self, name):
        self.kill(name)
        self.start(name)

    def kill_everything(self):
        for name in self.names():
            self.kill(name)
        self.kill_client()

    def commands(self):
        return [server["command"] for server in self.config()["servers"]]

    def kill_what_runs(self, commands):
        """After a power cut: the configuration cannot be read, and servers whose disk is gone may have ended."""
        for command in commands:
            pids = pids_of(command)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pids, command[0])
        self.kill_client()

    def client_pids(self, mount_point=None):
        mount_point = mount_point or self.mount_point
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                    if words[0].endswith(b"/tarn-fuse") and os.fsencode(mount_point) in words:
                        found.append(int(entry))
        return found

    def kill_client(self):
        pids = self.client_pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for_end(pids, "tarn-fuse")
        run(["umount", "-l", self.mount_point], check=False)

    def remount(self, drop=True):
        self.tarn("umount", self.mount_point)
        if drop:
            drop_caches()
        self.mount()

    def mount(self):
        self.tarn("mount", "default", self.mount_point)

    def logs(self, prefix):
        text = ""
        folder = f"{self.directory}/log"
        for name in sorted(os.listdir(folder)):
            if name.startswith(prefix):
                with open(os.path.join(folder, name), errors="replace") as file:
                    text += file.read()
        return text


class Writers:
    """Threads that write files and record each one only when its fsync (or that of its directory's name) was acknowledged."""

    def __init__(self, top, threads=4, sizes=(1, 4096, 70_000, 300_000, 2_500_000), overwrite=True):
        self.top = top
        self.sizes = sizes
        self.overwrite = overwrite
        self.acknowledged = {}  # path -> (seed, size)
        self.stamps = {}  # path -> monotonic time at which its write began, and at which its fsync had returned
        self.errors = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, seconds=120):
        self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))

    def finished(self):
        return not any(thread.is_alive() for thread in self._threads)

    def wait_for_progress(self, files, seconds=120):
        goal = len(self.acknowledged) + files
        wait_for(lambda: len(self.acknowledged) >= goal or self.finished(), seconds, f"{files} more files written")

    def _run(self, number):
        chooser = random.Random(number)
        folder = os.path.join(self.top, f"writer-{number}")
        try:
            os.makedirs(folder, exist_ok=True)
            for i in range(1_000_000):
                if self._stop.is_set():
                    return
                self._write_one(os.path.join(folder, f"file-{i}"), chooser)
        except OSError as error:
            self.errors.append(error)

    def _write_one(self, path, chooser):
        size = chooser.choice(self.sizes)
        seed = chooser.getrandbits(48)
        started = time.monotonic()
        with open(path, "wb", buffering=0) as file:
            file.write(content(seed, size))
            os.fsync(file.fileno())
            acknowledged = time.monotonic()
        with self._lock:
            self.acknowledged[path] = (seed, size)
            self.stamps[path] = (started, acknowledged)

    def verify(self, counts=lambda acknowledged_at: True):
        """The paths whose contents are not what was acknowledged; with `counts`, of those for whose time it holds."""
        bad = []
        for path, (seed, size) in sorted(self.acknowledged.items()):
            started, acknowledged = self.stamps[path]
            if not counts(acknowledged):
                continue
            try:
                with open(path, "rb") as file:
                    found = file.read()
                wanted = content(seed, size)
                if found != wanted:
                    differs = [i for i in range(0, size, 4096) if found[i:i + 4096] != wanted[i:i + 4096]]
                    zeros = not any(any(found[i:i + 4096]) for i in differs)
                    bad.append(f"{path}: {len(found)} of {size} bytes, blocks {differs[:3]}.. ({len(differs)}) differ, "
                               f"all zeros: {zeros}, begun at {started:.3f} s and acknowledged at {acknowledged:.3f} s")
            except OSError as error:
                bad.append(f"{path}: {error}")
        return bad
