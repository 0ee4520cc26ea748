#!/usr/bin/env python3
"""Measures a mounted file system and prints a table; see --help. Started by run.sh, which builds what it needs.

What the rows mean:
  seq_*          1 MiB requests by 1 or 4 jobs with a file each. Writes are buffered and end with an fsync. `cold`:
                 buffered, after dropping all caches. `warm`: O_DIRECT, so past the page cache of the client, after the
                 file has been read once.
  rand_read_*    O_DIRECT on one file, 4 KiB or 128 KiB, by the number of jobs in the name. `cold` after dropping caches.
  rand_write_4k  buffered, with an fsync at the end.
  small_ingest, epoch_*   10,000 files of 112 KiB by 8 threads: written; read in shuffled order after dropping caches,
                 again, and (with --remount) after mounting anew.
  meta_*         operations on empty files: 1t = one thread, own8t = 8 threads in 8 directories, one8t = 8 in one.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

from programs import BIN

GROUPS = ("sequential", "random", "epoch", "metadata")
FIO_TIMEOUT_S = 600
PHASE_TIMEOUT_S = 900


class BenchmarkError(Exception):
    """A measurement that could not be made; the text says why."""


class Scale:
    """How much is done. The quick one shows that everything works; its figures are rough."""

    def __init__(self, quick):
        self.sequential_mib = 128 if quick else 1024  # for one job; four jobs do half of it each
        self.random_file_mib = 128 if quick else 1024
        self.random_seconds = 2 if quick else 8
        self.epoch_files = 1000 if quick else 10000
        self.meta_files_one_thread = 1000 if quick else 5000
        self.meta_files_per_thread = 250 if quick else 2500


def run(command, timeout):
    """Runs a command and returns its standard output; its error output becomes the error's text."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"no end after {timeout} s: {shlex.join(command)}") from error
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        raise BenchmarkError(f"{os.path.basename(command[0])}: {lines[0]}")
    return done.stdout


def drop_caches():
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
            control.write("3\n")
    except OSError as error:
        raise BenchmarkError(f"caches cannot be dropped: {error.strerror} (run as root, or with --keep-caches)") from error


class Suite:
    """All measurements of one directory. Everything is made in a folder of its own there, and removed again."""

    def __init__(self, directory, options):
        self.options = options
        self.scale = Scale(options.quick)
        self.directory = directory
        self.work = None
        self.rows = {}  # name -> {"value", "unit"} or {"error"}

    def measure(self):
        self.work = tempfile.mkdtemp(prefix="tarn-bench.", dir=self.directory)
        try:
            for group in GROUPS:
                if group in self.options.only:
                    getattr(self, group)()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)
        return self.rows

    def row(self, name, unit, measure, cold=False):
        """Records what measure() returns. A failure is recorded too: it says something about the file system."""
        if cold and self.options.keep_caches:
            return
        os.sync()  # what the row before has written is not this row's load
        try:
            if cold:
                drop_caches()
            value = measure()
            self.rows[name] = {"value": value, "unit": unit}
            text = f"{format_value(value)} {unit}"
        except BenchmarkError as error:
            self.rows[name] = {"error": str(error), "unit": unit}
            text = f"failed: {error}"
        print(f"  {self.directory}: {name}: {text}", file=sys.stderr, flush=True)

    def fio(self, name, field, jobs, *arguments):
        """Runs fio and returns the field (bw_bytes or iops) of whichever direction did something."""
        output = run(["fio", f"--name={name}", f"--directory={self.work}", "--ioengine=psync", "--group_reporting",
                      f"--numjobs={jobs}", "--fallocate=none", "--invalidate=0", "--thread", "--randrepeat=1",
                      "--output-format=json", *arguments], FIO_TIMEOUT_S)
        job = json.loads(output[output.index("{"):])["jobs"][0]
        if job.get("error"):
            raise BenchmarkError(f"fio: {os.strerror(job['error'])}")
        value = max(job["read"][field], job["write"][field])
        return value / 1e6 if field == "bw_bytes" else value

    def sequential(self):
        for jobs in (1, 4):
            mib = self.scale.sequential_mib // (1 if jobs == 1 else 2)
            files = ("--bs=1M", f"--size={mib}M", f"--filename_format=seq{jobs}.$jobnum")

            def stream(mode, *arguments, jobs=jobs, files=files):
                return self.fio("seq", "bw_bytes", jobs, f"--rw={mode}", *files, *arguments)

            self.row(f"seq_write_{jobs}", "MB/s", lambda: stream("write", "--end_fsync=1"))
            self.row(f"seq_read_cold_{jobs}", "MB/s", lambda: stream("read"), cold=True)
            self.row(f"seq_read_warm_{jobs}", "MB/s", lambda: stream("read", "--direct=1"))
            self.remove_files("seq")

    def random(self):
        def at_random(mode, size, jobs, field, *arguments):
            return self.fio("rand", field, jobs, f"--rw={mode}", f"--bs={size}", "--filename=random",
                            f"--size={self.scale.random_file_mib}M", "--time_based",
                            f"--runtime={self.scale.random_seconds}", *arguments)

        def read_4k(jobs):
            return at_random("randread", "4k", jobs, "iops", "--direct=1")

        def lay_out(mode):
            return self.fio("layout", "bw_bytes", 1, f"--rw={mode}", "--bs=1M", "--filename=random",
                            f"--size={self.scale.random_file_mib}M", "--end_fsync=1")

        try:
            lay_out("write")
            self.row("rand_read_4k_cold_1", "IOPS", lambda: read_4k(1), cold=True)
            lay_out("read")  # now the servers have all of it in memory
        except BenchmarkError as error:
            print(f"  {self.directory}: no file for random access: {error}", file=sys.stderr)
            return
        self.row("rand_read_4k_1", "IOPS", lambda: read_4k(1))
        self.row("rand_read_4k_16", "IOPS", lambda: read_4k(16))
        self.row("rand_read_128k_8", "MB/s", lambda: at_random("randread", "128k", 8, "bw_bytes", "--direct=1"))
        for jobs in (1, 16):
            self.row(f"rand_write_4k_{jobs}", "IOPS",
                     lambda jobs=jobs: at_random("randwrite", "4k", jobs, "iops", "--end_fsync=1"))
        self.remove_files("random")

    def remove_files(self, prefix):
        for name in os.listdir(self.work):
            if name.startswith(prefix):
                os.unlink(os.path.join(self.work, name))

    def program(self, name, **arguments):
        command = [os.path.join(self.options.programs, name)]
        for option, value in arguments.items():
            command += ["--" + option.replace("_", "-"), str(value)]
        return json.loads(run(command, PHASE_TIMEOUT_S))

    def epoch(self):
        directory = os.path.join(self.work, "epoch")

        def files(phase, seed=1):
            return self.program("tarn-bench-epoch", dir=directory, phase=phase, seed=seed,
                                files=self.scale.epoch_files)["files_per_second"]

        self.row("small_ingest", "files/s", lambda: files("write"))
        self.row("epoch_cold", "files/s", lambda: files("read", 1), cold=True)
        self.row("epoch_again", "files/s", lambda: files("read", 2))
        if self.options.remount and self.directory == self.options.mountpoint:
            self.row("epoch_remount", "files/s", lambda: self.remount() or files("read", 3))
        shutil.rmtree(directory, ignore_errors=True)

    def remount(self):
        run(["bash", "-c", self.options.remount], PHASE_TIMEOUT_S)

    def metadata(self):
        shapes = (("meta_1t", "own", 1, self.scale.meta_files_one_thread),
                  ("meta_own8t", "own", 8, self.scale.meta_files_per_thread),
                  ("meta_one8t", "shared", 8, self.scale.meta_files_per_thread))
        for shape, layout, threads, files in shapes:
            directory = os.path.join(self.work, shape)

            def rate(phase, directory=directory, layout=layout, threads=threads, files=files):
                return self.program("tarn-bench-meta", dir=directory, phase=phase, layout=layout, threads=threads,
                                    files_per_thread=files)["operations_per_second"]

            self.row(f"{shape}_create", "op/s", lambda: rate("create"))
            self.row(f"{shape}_stat_cold", "op/s", lambda: rate("stat"), cold=True)
            if layout == "shared":
                self.row(f"{shape}_ls_cold", "names/s", lambda: rate("ls"), cold=True)
                self.row(f"{shape}_ls_again", "names/s", lambda: rate("ls"))
            self.row(f"{shape}_rename", "op/s", lambda: rate("rename"))
            self.row(f"{shape}_unlink", "op/s", lambda: rate("unlink"))
            shutil.rmtree(directory, ignore_errors=True)


def format_value(value):
    """Three or four significant digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def merge(runs):
    """The median of each row over several runs; an error in one of them stays an error."""
    merged = {}
    for name in runs[0]:
        rows = [rows_of_run[name] for rows_of_run in runs]
        failed = [row for row in rows if "error" in row]
        if failed:
            merged[name] = failed[0]
            continue
        values = [row["value"] for row in rows]
        merged[name] = {"value": statistics.median(values), "unit": rows[0]["unit"]}
        if len(values) > 1:
            merged[name]["runs"] = values
    return merged


def cell(row):
    return "failed" if "error" in row else format_value(row["value"])


def table(rows, baseline=None):
    """The lines of the table; with a baseline its column and the ratio."""
    lines = [f"{'workload':<22} {'unit':<8} {'mount':>12}" + (f" {'baseline':>12} {'ratio':>7}" if baseline else "")]
    for name, row in rows.items():
        line = f"{name:<22} {row['unit']:<8} {cell(row):>12}"
        if baseline and name in baseline:
            ratio = "-"
            if "value" in row and baseline[name].get("value"):
                ratio = f"{row['value'] / baseline[name]['value']:.2f}"
            line += f" {cell(baseline[name]):>12} {ratio:>7}"
        lines.append(line)
    return lines


def file_system_of(directory):
    """Type of the file system that the directory lies on."""
    return run(["stat", "--file-system", "--format=%T", directory], 30).strip()


def machine():
    """What a reader needs to know to judge the figures."""
    with open("/proc/meminfo", encoding="ascii") as file:
        memory_kib = int(next(line for line in file if line.startswith("MemTotal")).split()[1])
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {"kernel": platform.release(), "cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory_kib / 2**20, 1)}


def commit():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        return run(["git", "-C", root, "rev-parse", "--short", "HEAD"], 10).strip()
    except (BenchmarkError, OSError):
        return None


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mountpoint", help="directory to measure")
    parser.add_argument("--baseline", metavar="DIR", help="measure this directory too and print the ratio")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; the figures are rough")
    parser.add_argument("--runs", type=int, default=1, help="repeat everything and take medians (default 1)")
    parser.add_argument("--only", default=",".join(GROUPS), help=f"groups to run, of {','.join(GROUPS)}")
    parser.add_argument("--keep-caches", action="store_true", help="leave out the cold rows instead of dropping caches")
    parser.add_argument("--remount", metavar="COMMAND", help="shell command that mounts anew, for epoch_remount")
    parser.add_argument("--programs", default=BIN, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    for group in options.only:
        if group not in GROUPS:
            parser.error(f"--only: there is no group {group}")
    for directory in filter(None, (options.mountpoint, options.baseline)):
        if not os.path.isdir(directory):
            parser.error(f"{directory} is not a directory")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def main(arguments):
    options = parse_arguments(arguments)
    directories = [options.mountpoint] + ([options.baseline] if options.baseline else [])
    # The directories take turns, so that a change of the machine's mood touches both columns.
    runs = {directory: [] for directory in directories}
    for _ in range(options.runs):
        for directory in directories:
            runs[directory].append(Suite(directory, options).measure())
    columns = [merge(runs[directory]) for directory in directories]
    host = machine()
    print(f"{options.mountpoint} ({file_system_of(options.mountpoint)})"
          + (f", baseline {options.baseline} ({file_system_of(options.baseline)})" if options.baseline else "")
          + f", {host['cores']} cores, Linux {host['kernel']}, {'median of ' + str(options.runs) if options.runs > 1 else 'one run'}")
    print("\n".join(table(*columns)))
    if options.json:
        document = {"version": 1, "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                    "commit": commit(), "machine": host, "quick": options.quick, "runs": options.runs,
                    "mount": {"path": options.mountpoint, "file_system": file_system_of(options.mountpoint),
                              "rows": columns[0]}}
        if options.baseline:
            document["baseline"] = {"path": options.baseline, "file_system": file_system_of(options.baseline),
                                    "rows": columns[1]}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
    return 1 if any("error" in row for column in columns for row in column.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchmarkError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
