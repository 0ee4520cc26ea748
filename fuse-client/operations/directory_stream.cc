#include "fuse-client/operations/directory_stream.h"

#include <utility>

namespace tarn::fuse {
namespace {

constexpr int64_t kAttributesAgeMaxNs = 1'000'000'000;

// Where the listing continues in the page; nothing if that is elsewhere.
std::optional<size_t> PositionAfter(const FetchedPage& page, uint64_t cookie) {
  if (cookie == page.after_cookie) return 0;
  const auto& entries = page.page.entries;
  for (size_t i = entries.size(); i > 0; --i) {
    if (entries[i - 1].cookie == cookie) return i;
  }
  return std::nullopt;
}

}  // namespace

std::optional<DirectoryStream::Continuation> DirectoryStream::Continue(const Wanted& wanted) {
  std::shared_ptr<const FetchedPage> page;
  {
    MutexLock lock(mutex_);
    page = kept_;
  }
  if (page == nullptr) return std::nullopt;
  if (wanted.with_attributes) {
    const bool fresh = page->with_attributes && page->changes == wanted.changes &&
                       wanted.now_ns - page->fetched_ns < kAttributesAgeMaxNs;
    if (!fresh) return std::nullopt;
  }
  const std::optional<size_t> next = PositionAfter(*page, wanted.after_cookie);
  if (!next || (*next == page->page.entries.size() && !page->page.end)) return std::nullopt;
  return Continuation{std::move(page), *next};
}

void DirectoryStream::Keep(std::shared_ptr<const FetchedPage> page) {
  MutexLock lock(mutex_);
  kept_ = std::move(page);
}

void DirectoryStream::Drop() { Keep(nullptr); }

}  // namespace tarn::fuse
