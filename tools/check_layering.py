#!/usr/bin/env python3
"""Checks the rules of the source tree that a compiler does not: who may include whom, file sizes, forbidden words.

Usage: check_layering.py [ROOT]     prints one line per violation ("path:line: text"); exit status 1 if there is any.

The rules:
  * a folder includes only the folders that FOLDER_RULES names; inside the servers the layers go one way;
  * directories do not include each other in a circle (a folder and what lies inside it count as one whole);
  * a quoted include is a path from the repository root and exists;
  * libfuse is included by fuse-client only, CLI11 by the files that bind options only (it compiles slowly);
  * a source file has at most FILE_LINES_MAX lines;
  * no file names the places where the project happened to be developed.
"""

import os
import re
import sys

FILE_LINES_MAX = 800

EVERYTHING = None
# Folder -> the other top-level folders that it may include. A folder may always include itself.
FOLDER_RULES = {
    "proto": set(),
    "common": {"proto"},
    "metaserver": {"common", "proto"},
    "chunkserver": {"common", "proto"},
    "client": {"common", "proto"},
    "fuse-client": {"client", "common"},
    "csi-driver": {"client", "common", "proto"},
    "cli": {"client", "common"},
    "tests": EVERYTHING,
    "bench": EVERYTHING,
}
# Nothing but themselves may include these.
LEAF_FOLDERS = {"tests", "bench", "tools", "cmake", "deploy"}

# Server -> layers from the top down; a layer may include those after it, folders of one layer never each other.
# Files that lie directly in the server's folder (main.cc, options.cc) are the layer "main".
LAYERS = {
    "metaserver": [{"main"}, {"service"}, {"replication", "state", "placement"}],
    "chunkserver": [{"main"}, {"service"}, {"elastic"}, {"replication"}, {"store"}],
}

# Library header prefix -> (what may include it, as a regular expression on the path, the words for the message).
LIBRARY_RULES = [
    (re.compile(r"fuse(3/|_|\.h)"), re.compile(r"(fuse-client|tests|bench)/"), "only fuse-client may include libfuse"),
    (re.compile(r"CLI/"), re.compile(r"(.*/)?([a-z_]+_)?options\.cc$|cli/"), "only options.cc may include CLI11"),
]

SOURCE_SUFFIXES = (".cc", ".h", ".c", ".proto", ".py", ".sh")
INCLUDING_SUFFIXES = (".cc", ".h", ".c")
UNLINKED_SUFFIXES = ("_test.cc", "_bench.cc")  # programs of their own: they cannot close a circle
SKIPPED_FOLDERS = {".git", "build", ".cache", ".idea", ".vscode", "__pycache__", "node_modules"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
IMPORT = re.compile(r'^\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"\s*;')
# Written so that this file does not contain the words itself.
WORKPLACE = re.compile(r"(?<![\w.$}-])/wor[k]/|\b(?:DESIG[N]|STYL[E])\.md\b")


def list_files(root):
    """All files below root as relative paths with '/', sorted; what builds and tools produce is left out."""
    found = []
    for directory, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
        for name in files:
            if name in SKIPPED_FOLDERS:  # a worktree's .git is a file
                continue
            found.append(os.path.relpath(os.path.join(directory, name), root).replace(os.sep, "/"))
    return sorted(found)


def read_lines(root, path):
    """The file's lines, or None for a binary file."""
    with open(os.path.join(root, path), "rb") as file:
        data = file.read()
    if b"\0" in data[:4096]:
        return None
    return data.decode("utf-8", errors="replace").splitlines()


def layer_of(path):
    """(rank, layer) of a server's file, rank None where the folder is not in the table; None outside the servers."""
    parts = path.split("/")
    layers = LAYERS.get(parts[0])
    if layers is None:
        return None
    name = parts[1] if len(parts) > 2 else "main"
    for rank, names in enumerate(layers):
        if name in names:
            return rank, name
    return None, name


def check_folders(path, target):
    """The text of the violation when `path` must not include `target`, else None."""
    here, there = path.split("/")[0], target.split("/")[0]
    if here != there:
        allowed = FOLDER_RULES.get(here, set())
        if there in LEAF_FOLDERS or (allowed is not EVERYTHING and there not in allowed):
            return f"{here} must not include {there}"
        return None
    if here not in LAYERS:
        return None
    (from_rank, from_layer), (to_rank, to_layer) = layer_of(path), layer_of(target)
    if from_rank is None or to_rank is None or from_layer == to_layer or from_rank < to_rank:
        return None
    return f"{here}/{from_layer} must not include {here}/{to_layer}"


def exists(target, files):
    if target in files:
        return True
    generated = re.fullmatch(r"(proto/.+?)(?:\.grpc)?\.pb\.h", target)
    return bool(generated) and generated.group(1) + ".proto" in files


def check_include(path, target, quoted, files):
    """Violations of one include directive or proto import."""
    if not quoted:
        for header, includer, text in LIBRARY_RULES:
            if header.match(target) and not includer.match(path):
                yield f"{text} (<{target}>)"
        return
    if target.split("/")[0] not in FOLDER_RULES and target.split("/")[0] not in LEAF_FOLDERS:
        yield f'"{target}" is not a path from the repository root (libraries go in <>)'
        return
    if not exists(target, files):
        yield f'"{target}" does not exist'
    text = check_folders(path, target)
    if text:
        yield text


def includes_of(path, lines):
    """(line number, target, quoted) of each include or import."""
    for number, line in enumerate(lines, 1):
        if path.endswith(INCLUDING_SUFFIXES):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1) or match.group(2), match.group(1) is not None
        elif path.endswith(".proto"):
            match = IMPORT.match(line)
            if match and not match.group(1).startswith("google/"):
                yield number, match.group(1), True


def nested(one, other):
    """Whether one of the directories is, or lies inside, the other."""
    shorter, longer = sorted((one + "/", other + "/"), key=len)
    return longer.startswith(shorter)


def find_cycle(edges):
    """One cycle in {directory: {directory: (path, line)}} as a list of directories (first = last), or None."""
    state, stack = {}, []

    def visit(node):
        state[node] = "open"
        stack.append(node)
        for target in sorted(edges.get(node, {})):
            if state.get(target) == "open":
                return stack[stack.index(target):] + [target]
            if target not in state:
                cycle = visit(target)
                if cycle:
                    return cycle
        state[node] = "done"
        stack.pop()
        return None

    for start in sorted(edges):
        if start not in state:
            cycle = visit(start)
            if cycle:
                return cycle
    return None


def check_text(path, lines):
    """Violations that need no knowledge of other files."""
    for number, line in enumerate(lines, 1):
        match = WORKPLACE.search(line)
        if match:
            yield number, f"names a place of the workshop: {match.group(0)}"
    if path.endswith(SOURCE_SUFFIXES) and len(lines) > FILE_LINES_MAX:
        yield FILE_LINES_MAX + 1, f"{len(lines)} lines, the limit is {FILE_LINES_MAX}: split it by noun or by operation"


def check_tree(root):
    """All violations below root, as "path:line: text"."""
    files = list_files(root)
    known = set(files)
    violations, edges = [], {}
    for path in files:
        lines = read_lines(root, path)
        if lines is None:
            continue
        violations += [f"{path}:{number}: {text}" for number, text in check_text(path, lines)]
        layer = layer_of(path)
        if layer and layer[0] is None and path.endswith(INCLUDING_SUFFIXES):
            violations.append(f"{path}:1: folder {layer[1]} has no layer in tools/check_layering.py")
        for number, target, quoted in includes_of(path, lines):
            violations += [f"{path}:{number}: {text}" for text in check_include(path, target, quoted, known)]
            here, there = os.path.dirname(path), os.path.dirname(target)
            if quoted and not nested(here, there) and not path.endswith(UNLINKED_SUFFIXES):
                edges.setdefault(here, {}).setdefault(there, (path, number))
    cycle = find_cycle(edges)
    if cycle:
        path, number = edges[cycle[0]][cycle[1]]
        violations.append(f"{path}:{number}: directories include each other in a circle: {' -> '.join(cycle)}")
    return violations


def main(arguments):
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
    violations = check_tree(arguments[1] if len(arguments) > 1 else default)
    for violation in violations:
        print(violation)
    if violations:
        print(f"{len(violations)} violations", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
