// tarn-posix-checks DIRECTORY [--gtest_...]: what programs expect of a file system, checked in any directory. A local
// file system passes too, which is how the checks themselves are checked.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>

#include "tests/posix/posix_fixture.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    fprintf(stderr, "usage: tarn-posix-checks DIRECTORY [--gtest_filter=...]\n");
    return 2;
  }
  std::string base = std::string(argv[1]) + "/posix-checks.XXXXXX";
  if (mkdtemp(base.data()) == nullptr || chmod(base.c_str(), 0755) != 0) {
    perror(base.c_str());
    return 1;
  }
  tarn::posix::SetBaseDirectory(base);
  const int result = RUN_ALL_TESTS();
  if (rmdir(base.c_str()) != 0) perror(base.c_str());
  return result;
}
