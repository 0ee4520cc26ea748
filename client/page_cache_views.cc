#include "client/page_cache_views.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "common/base/check.h"

namespace tarn::client {

PageCacheViews::PageCacheViews(uint64_t bytes_max) {
  static_assert(std::is_trivially_copyable_v<View>, "zeroed memory must be a free view");
  const size_t sets = std::bit_floor(std::max<size_t>(1, bytes_max / sizeof(Set)));
  set_mask_ = sets - 1;
  sets_.reset(static_cast<Set*>(calloc(sets, sizeof(Set))));
  CHECK(sets_ != nullptr, "no memory for the page cache views");
}

PageCacheViews::Set& PageCacheViews::SetOf(InodeId inode) {
  // Inode numbers are given in order; the multiplication spreads them.
  return sets_[(inode.value() * 0x9E3779B97F4A7C15ull >> 20) & set_mask_];
}

PageCacheViews::View* PageCacheViews::Find(Set& set, InodeId inode) {
  for (View& view : set) {
    if (view.inode == inode) return &view;
  }
  return nullptr;
}

bool PageCacheViews::Open(const Attributes& attributes) {
  const View fresh{attributes.inode, attributes.size_bytes, attributes.mtime_ns, attributes.data_generation};
  MutexLock lock(mutex_);
  Set& set = SetOf(attributes.inode);
  View* found = Find(set, attributes.inode);
  const bool same = found != nullptr && found->size_bytes == fresh.size_bytes && found->mtime_ns == fresh.mtime_ns &&
                    found->data_generation == fresh.data_generation;
  // The newest in front; the last one makes room.
  View* slot = found != nullptr ? found : &set.back();
  std::rotate(set.data(), slot, slot + 1);
  set.front() = fresh;
  return same;
}

void PageCacheViews::OwnWrite(const Attributes& attributes) { Advance(attributes, 1); }

void PageCacheViews::OwnAttributeChange(const Attributes& attributes) { Advance(attributes, 0); }

void PageCacheViews::Advance(const Attributes& attributes, uint64_t generations) {
  MutexLock lock(mutex_);
  View* found = Find(SetOf(attributes.inode), attributes.inode);
  if (found == nullptr) return;
  if (attributes.data_generation != found->data_generation + generations) {
    *found = View();  // somebody else changed the data in between
    return;
  }
  found->size_bytes = attributes.size_bytes;
  found->mtime_ns = attributes.mtime_ns;
  found->data_generation = attributes.data_generation;
}

}  // namespace tarn::client
