#!/usr/bin/env python3
"""Plants one violation at a time in a small tree and expects check_layering to name it, and nothing else."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_layering  # noqa: E402  (the path is set above)

CLEAN_TREE = {
    "proto/data.proto": 'syntax = "proto3";\nimport "google/protobuf/any.proto";\n',
    "proto/admin.proto": 'import "proto/data.proto";\n',
    "common/base/status.h": "#pragma once\n#include <string>\n",
    "common/rpc/server.h": '#include "common/base/status.h"\n#include "proto/data.pb.h"\n',
    "metaserver/main.cc": '#include "metaserver/service/session.h"\n#include "metaserver/state/store.h"\n',
    "metaserver/options.cc": "#include <CLI/CLI.hpp>\n",
    "metaserver/service/session.h": '#include "metaserver/state/store.h"\n#include "proto/admin.grpc.pb.h"\n',
    "metaserver/state/store.h": '#include "common/base/status.h"\n#include "metaserver/state/ops/rename.h"\n',
    "metaserver/state/ops/rename.h": "#pragma once\n",
    "metaserver/replication/log.h": '#include "common/base/status.h"\n',
    "chunkserver/service/server.h": '#include "chunkserver/store/segment.h"\n',
    "chunkserver/store/segment.h": "#pragma once\n",
    "client/file.h": '#include "proto/data.pb.h"\n',
    "fuse-client/mount.cc": '#include <fuse3/fuse_lowlevel.h>\n#include "client/file.h"\n',
    "cli/put.cc": '#include "client/file.h"\n',
    "tests/mount_test.cc": '#include "metaserver/state/store.h"\n#include "tests/cluster.h"\n',
    "tests/cluster.h": "#pragma once\n",
    "docs/guide.md": "Data lies in $dir/work/data and ./work/data.\n",
    "build/out.cc": '#include "nowhere.h"\n',
}


def check(changes):
    """The violations of the clean tree with `changes` (path -> content) laid over it."""
    with tempfile.TemporaryDirectory() as root:
        for path, content in {**CLEAN_TREE, **changes}.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return check_layering.check_tree(root)


class CheckLayering(unittest.TestCase):
    def expect_one(self, path, content, *words):
        violations = check({path: content})
        self.assertEqual(len(violations), 1, violations)
        self.assertTrue(violations[0].startswith(path + ":"), violations)
        for word in words:
            self.assertIn(word, violations[0])

    def test_clean_tree_has_no_violation(self):
        self.assertEqual(check({}), [])

    def test_folder_includes_a_folder_above_it(self):
        self.expect_one("common/io/a.cc", '#include "client/file.h"\n', "common must not include client")
        self.expect_one("metaserver/state/a.cc", '#include "client/file.h"\n', "metaserver must not include client")
        self.expect_one("cli/a.cc", '\n#include "metaserver/state/store.h"\n', ":2:", "cli must not include metaserver")
        self.expect_one("fuse-client/a.cc", '#include "proto/data.pb.h"\n', "fuse-client must not include proto")

    def test_nothing_includes_tests(self):
        self.expect_one("client/a.cc", '#include "tests/cluster.h"\n', "client must not include tests")
        self.expect_one("bench/a.cc", '#include "tests/cluster.h"\n', "bench must not include tests")

    def test_server_layer_includes_the_layer_above(self):
        self.expect_one("metaserver/placement/a.cc", '#include "metaserver/service/session.h"\n', "metaserver/service")
        self.expect_one("chunkserver/replication/a.cc", '#include "chunkserver/service/server.h"\n', "chunkserver/service")

    def test_folders_of_one_server_layer_include_each_other(self):
        self.expect_one("metaserver/replication/a.cc", '#include "metaserver/state/store.h"\n', "metaserver/state")

    def test_server_folder_without_a_layer(self):
        self.expect_one("metaserver/misc/a.cc", "#include <string>\n", "misc has no layer")

    def test_directories_in_a_circle(self):
        violations = check({
            "common/io/a.h": '#include "common/obs/b.h"\n',
            "common/obs/b.h": '#include "common/wire/c.h"\n',
            "common/wire/c.h": '#include "common/io/a.h"\n',
        })
        self.assertEqual(len(violations), 1, violations)
        self.assertIn("common/io -> common/obs -> common/wire -> common/io", violations[0])

    def test_a_folder_and_its_parts_are_no_circle(self):
        self.assertEqual(check({
            "client/file.h": '#include "client/data/a.h"\n',
            "client/data/a.h": '#include "client/types.h"\n',
            "client/types.h": "#pragma once\n",
        }), [])

    def test_tests_do_not_make_a_circle(self):
        self.assertEqual(check({
            "common/io/a.h": "#pragma once\n",
            "common/io/a_test.cc": '#include "common/obs/b.h"\n',
            "common/obs/b.h": '#include "common/io/a.h"\n',
        }), [])

    def test_include_that_is_no_path_from_the_root(self):
        self.expect_one("client/a.cc", '#include "file.h"\n', "repository root")
        self.expect_one("client/a.cc", '#include "../client/file.h"\n', "repository root")

    def test_include_that_does_not_exist(self):
        self.expect_one("client/a.cc", '#include "client/nothing.h"\n', "does not exist")
        self.expect_one("client/a.cc", '#include "proto/nothing.pb.h"\n', "does not exist")

    def test_proto_imports_code_folder(self):
        self.expect_one("proto/a.proto", 'import "common/base/status.h";\n', "proto must not include common")

    def test_libraries_have_their_place(self):
        self.expect_one("client/a.cc", "#include <fuse3/fuse_lowlevel.h>\n", "libfuse")
        self.expect_one("metaserver/service/a.cc", "#include <CLI/CLI.hpp>\n", "CLI11")

    def test_file_too_long(self):
        self.expect_one("client/a.cc", "\n" * 801, "801 lines")
        self.expect_one("scripts/a.sh", "\n" * 801, "801 lines")
        self.assertEqual(check({"client/a.cc": "\n" * 800, "docs/a.md": "\n" * 2000}), [])

    def test_names_of_the_workshop(self):
        self.expect_one("docs/a.md", "see " + "DESIGN" + ".md\n", "workshop")
        self.expect_one("client/a.cc", "// " + "STYLE" + ".md says\n", "workshop")
        self.expect_one("scripts/a.sh", "cd /wo" + "rk/main\n", "workshop")

    def test_binary_files_are_left_alone(self):
        self.assertEqual(check({"docs/picture.png": b"\0\xff/wo" + b"rk/main"}), [])

    def test_exit_status(self):
        with tempfile.TemporaryDirectory() as root:
            script = check_layering.__file__
            self.assertEqual(subprocess.run([sys.executable, script, root], check=False).returncode, 0)
            os.mkdir(os.path.join(root, "client"))
            with open(os.path.join(root, "client", "a.cc"), "w", encoding="utf-8") as file:
                file.write('#include "cli/x.h"\n')
            run = subprocess.run([sys.executable, script, root], check=False, capture_output=True, text=True)
            self.assertEqual(run.returncode, 1)
            self.assertIn("client must not include cli", run.stdout)


if __name__ == "__main__":
    unittest.main()
