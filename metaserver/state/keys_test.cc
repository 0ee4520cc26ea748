// Golden bytes of the metadata state's keys and small values: these must never change without a new format version.
#include "metaserver/state/keys.h"

#include <gtest/gtest.h>

#include <string>

#include "metaserver/state/records.h"

namespace tarn::meta {
namespace {

std::string Hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char byte : bytes) {
    hex.push_back(kDigits[static_cast<unsigned char>(byte) >> 4]);
    hex.push_back(kDigits[static_cast<unsigned char>(byte) & 15]);
  }
  return hex;
}

constexpr uint64_t kId = 0x0102030405060708;

TEST(Keys, HaveTheirGoldenBytes) {
  EXPECT_EQ(HeaderKey(), "A");
  EXPECT_EQ(ClusterMapKey(), "B");
  EXPECT_EQ(DeadDataCountKey(), "C");
  EXPECT_EQ(Hex(DeadDataKey(DataId(kId))), "470102030405060708");
  EXPECT_EQ(Hex(DirectorySizeKey(InodeId(kId))), "450102030405060708");
  EXPECT_EQ(Hex(LinkedFileHomeKey(InodeId(kId))), "4c0102030405060708");
  EXPECT_EQ(Hex(UnpropagatedKey(kId)), "4b0102030405060708");
  EXPECT_EQ(Hex(InodeKey(InodeId(kId))), "490102030405060708");
  EXPECT_EQ(Hex(SessionNonceKey(kId)), "4e0102030405060708");
  EXPECT_EQ(Hex(OrphanKey(SessionId(kId), InodeId(16))), "4f01020304050607080000000000000010");
  EXPECT_EQ(Hex(OrphanHolderKey(InodeId(16), SessionId(kId))), "4800000000000000100102030405060708");
  EXPECT_EQ(Hex(PurgeKey(VolumeId(0x01020304), InodeId(16))), "50010203040000000000000010");
  EXPECT_EQ(Hex(DeadDataOfTargetKey(TargetId(3), 0x55, DataId(kId))),
            "51000000000000000300000000000000550102030405060708");
  EXPECT_EQ(Hex(SessionResultKey(SessionId(kId), Sequence(255))), "52010203040506070800000000000000ff");
  EXPECT_EQ(Hex(SessionKey(SessionId(kId))), "530102030405060708");
  EXPECT_EQ(Hex(VolumeCountersKey(VolumeId(0x01020304))), "5501020304");
  EXPECT_EQ(Hex(VolumeKey(VolumeId(0x01020304))), "5601020304");
  EXPECT_EQ(VolumeNameKey("default"), "Wdefault");
  EXPECT_EQ(Hex(FileLocksKey(InodeId(kId), 1)), "46010203040506070801");
  EXPECT_EQ(Hex(SessionLockCountKey(SessionId(kId))), "4a0102030405060708");
  EXPECT_EQ(Hex(SessionLockKey(SessionId(kId), InodeId(16), 1)), "4a0102030405060708000000000000001001");
  EXPECT_EQ(Hex(LockWaitKey(SessionId(kId), Sequence(255))), "59010203040506070800000000000000ff");
  EXPECT_EQ(Hex(XattrKey(InodeId(kId), "user.a")), "580102030405060708757365722e61");
}

TEST(Keys, DirectorySizesHaveTheirGoldenBytes) {
  const DirectorySize size{.total = {0x0102, 3, 4}, .unsent = {-2, 1, 0}, .queued = 7};
  EXPECT_EQ(Hex(EncodeDirectorySize(size)),
            "0201000000000000"
            "0300000000000000"
            "0400000000000000"
            "feffffffffffffff"
            "0100000000000000"
            "0000000000000000"
            "0700000000000000");
  EXPECT_EQ(DecodeDirectorySize(EncodeDirectorySize(size)), size);
  EXPECT_FALSE(DecodeDirectorySize("short").has_value());
}

TEST(Keys, DentryHoldsParentCookieAndName) {
  EXPECT_EQ(NameCookie("a"), 0xe6c632b61e964e1f & kCookieMax);
  EXPECT_EQ(Hex(DentryKey(InodeId(kId), "a")), "44010203040506070866c632b61e964e1f61");
  const std::string key = DentryKey(InodeId(kId), "image-0001.jpg");
  const auto parts = ParseDentryKey(key);
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ(parts->parent, InodeId(kId));
  EXPECT_EQ(parts->cookie, NameCookie("image-0001.jpg"));
  EXPECT_EQ(parts->name, "image-0001.jpg");
}

TEST(Keys, CookiesLeaveRoomForTheDots) {
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t cookie = NameCookie("f" + std::to_string(i));
    EXPECT_GE(cookie, kCookieMin);
    EXPECT_LE(cookie, kCookieMax);
  }
}

TEST(Keys, ListingGoesOnAfterACookie) {
  const std::string key = DentryKey(InodeId(7), "name");
  EXPECT_LT(DentryAfterCookie(InodeId(7), 0), key);
  EXPECT_LT(DentryAfterCookie(InodeId(7), NameCookie("name") - 1), key + '\0');
  EXPECT_GT(DentryAfterCookie(InodeId(7), NameCookie("name")), key);
}

TEST(Keys, OrderAsTheirIds) {
  EXPECT_LT(InodeKey(InodeId(0xff)), InodeKey(InodeId(0x100)));
  EXPECT_LT(DeadDataOfTargetKey(TargetId(1), 255, DataId(9)), DeadDataOfTargetKey(TargetId(1), 256, DataId(1)));
}

TEST(Keys, ForeignKeysDoNotParse) {
  EXPECT_FALSE(ParseDentryKey("I12345678").has_value());
  EXPECT_FALSE(ParseDentryKey("D1234567812345678").has_value());  // no name
  EXPECT_FALSE(ParseXattrKey("X12345678").has_value());
  EXPECT_FALSE(ParseDeadDataOfTargetKey("Q12").has_value());
  EXPECT_FALSE(ParseTrailingId("S123").has_value());
  EXPECT_FALSE(ParseSessionLockKey(SessionLockCountKey(SessionId(1))).has_value());
  const auto lock = ParseSessionLockKey(SessionLockKey(SessionId(kId), InodeId(16), 1));
  ASSERT_TRUE(lock.has_value());
  EXPECT_EQ(lock->inode, InodeId(16));
  EXPECT_EQ(lock->space, 1);
}

TEST(SmallValues, HaveTheirGoldenBytes) {
  const VolumeCounters counters{.used_bytes = 0x0102, .used_inodes = 3};
  EXPECT_EQ(Hex(EncodeVolumeCounters(counters)), "02010000000000000300000000000000");
  EXPECT_EQ(DecodeVolumeCounters(EncodeVolumeCounters(counters)), counters);
  EXPECT_FALSE(DecodeVolumeCounters("short").has_value());
  EXPECT_EQ(Hex(EncodeU64(kId)), "0807060504030201");
  EXPECT_EQ(DecodeU64(EncodeU64(kId)), kId);
  EXPECT_FALSE(DecodeU64("").has_value());
}

TEST(Records, HaveTheirGoldenBytes) {
  proto::DentryRecord dentry;
  dentry.set_inode(16);
  dentry.set_type(proto::FILE_TYPE_DIRECTORY);
  EXPECT_EQ(Hex(Encode(dentry)), "0910000000000000001002");

  proto::Attributes file;
  file.set_inode(17);
  file.set_type(proto::FILE_TYPE_REGULAR);
  file.set_mode(0644);
  file.set_nlink(1);
  file.set_uid(1000);
  file.set_gid(100);
  file.set_size_bytes(112640);
  file.set_mtime_ns(5);
  file.set_volume(1);
  file.set_change(2);
  file.set_data_id(9);
  file.mutable_layout()->set_group_set_version(1);
  file.mutable_layout()->set_seed(6);
  file.mutable_layout()->set_stripe_unit_bytes(4096);
  file.mutable_layout()->set_width(2);
  file.mutable_layout()->set_chunk_size_bytes(8192);
  file.set_data_generation(1);
  EXPECT_EQ(Hex(EncodeInode(file)),
            "0a49091100000000000000100118a403200128e80730644080f00651050000000000000068017002"
            "a1010900000000000000aa011308011106000000000000001880202002288040b00101");
  const auto parsed = ParseInode(EncodeInode(file));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->SerializeAsString(), file.SerializeAsString());
}

TEST(Records, DamagedBytesAreCorruption) {
  EXPECT_EQ(ParseInode("\xff\xff").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(ParseDentry("\x09").status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tarn::meta
