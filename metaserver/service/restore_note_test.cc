#include "metaserver/service/restore_note.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

class RestoreNoteTest : public ::testing::Test {
 protected:
  RestoreNoteTest() {
    std::string pattern = (fs::temp_directory_path() / "restore_note_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    backup_ = directory_ + "/backup";
  }
  ~RestoreNoteTest() override { fs::remove_all(directory_); }

  std::string directory_;
  std::string backup_;
};

TEST_F(RestoreNoteTest, ABackupThatWasNeverRestoredHasNone) { EXPECT_EQ(*ReadRestoreNote(backup_), 0u); }

TEST_F(RestoreNoteTest, TheLastOneCounts) {
  ASSERT_TRUE(WriteRestoreNote(backup_, 1).ok());
  ASSERT_TRUE(WriteRestoreNote(backup_, 17).ok());
  EXPECT_EQ(*ReadRestoreNote(backup_), 17u);
}

TEST_F(RestoreNoteTest, WhatIsNoNoteIsRefusedAndNamed) {
  for (const char* text : {"", "incarnation", "incarnation 3", "incarnation 0\n", "incarnation 256\n",
                           "incarnation 3x\n", "incarnation -1\n", "something else\n"}) {
    std::ofstream(RestoreNotePath(backup_)) << text;
    const auto note = ReadRestoreNote(backup_);
    EXPECT_EQ(note.status().code(), StatusCode::kCorruption) << text;
    EXPECT_THAT(note.status().message(), ::testing::HasSubstr("backup.restored")) << text;
  }
}

TEST_F(RestoreNoteTest, WhereNothingCanBeWrittenThatIsToldOf) {
  EXPECT_FALSE(WriteRestoreNote(directory_ + "/not there/backup", 1).ok());
}

}  // namespace
}  // namespace tarn::meta
