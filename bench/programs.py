"""What the benchmarks share: where the programs are, and running one."""

import os
import subprocess
import sys

# Of the release build beside this script, from wherever it is called.
BIN = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "release", "bin"))


def add_bin(parser):
    parser.add_argument("--bin", default=BIN, type=os.path.abspath, help="the directory of the programs (%(default)s)")


def run(command, timeout=3600):
    """Its standard output; the benchmark ends with a message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
