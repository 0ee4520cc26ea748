#include "fuse-client/operations/directory_stream.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

std::shared_ptr<FetchedPage> Page(uint64_t after, const std::vector<uint64_t>& cookies, bool end) {
  auto page = std::make_shared<FetchedPage>();
  page->after_cookie = after;
  page->with_attributes = true;
  page->changes = 5;
  page->fetched_ns = 1'000;
  page->page.end = end;
  for (const uint64_t cookie : cookies) {
    client::DirectoryEntry entry;
    entry.cookie = cookie;
    page->page.entries.push_back(entry);
  }
  return page;
}

DirectoryStream::Wanted After(uint64_t cookie) { return {cookie, true, 5, 2'000}; }

TEST(DirectoryStream, ContinuesInsideTheKeptPage) {
  DirectoryStream stream{InodeId(1)};
  EXPECT_FALSE(stream.Continue(After(0)).has_value());
  stream.Keep(Page(100, {110, 120, 130}, false));
  EXPECT_EQ(stream.Continue(After(100))->entries().size(), 3u);
  EXPECT_EQ(stream.Continue(After(120))->entries().size(), 1u);
  EXPECT_FALSE(stream.Continue(After(130)).has_value()) << "the next page must be fetched";
  EXPECT_FALSE(stream.Continue(After(115)).has_value()) << "a cookie that the page does not have";
}

TEST(DirectoryStream, TheEndNeedsNoFetch) {
  DirectoryStream stream{InodeId(1)};
  stream.Keep(Page(0, {110}, true));
  ASSERT_TRUE(stream.Continue(After(110)).has_value());
  EXPECT_TRUE(stream.Continue(After(110))->entries().empty());
}

TEST(DirectoryStream, EqualCookiesAreSkippedTogether) {
  DirectoryStream stream{InodeId(1)};
  stream.Keep(Page(0, {110, 110, 120}, true));
  EXPECT_EQ(stream.Continue(After(110))->entries().size(), 1u);
}

TEST(DirectoryStream, OldAttributesAreNotHandedOut) {
  DirectoryStream stream{InodeId(1)};
  stream.Keep(Page(0, {110, 120}, true));
  DirectoryStream::Wanted changed = After(110);
  changed.changes = 6;
  EXPECT_FALSE(stream.Continue(changed).has_value());
  DirectoryStream::Wanted late = After(110);
  late.now_ns = 2'000'000'000;
  EXPECT_FALSE(stream.Continue(late).has_value());
  late.with_attributes = false;
  EXPECT_TRUE(stream.Continue(late).has_value()) << "names alone may be as old as the listing";
}

TEST(DirectoryStream, RewindDrops) {
  DirectoryStream stream{InodeId(1)};
  stream.Keep(Page(0, {110}, true));
  stream.Drop();
  EXPECT_FALSE(stream.Continue(After(110)).has_value());
}

}  // namespace
}  // namespace tarn::fuse
