// Listings: opendir, readdir, readdirplus, releasedir.
#include <algorithm>
#include <atomic>
#include <cerrno>

#include "fuse-client/operations/directory_packer.h"
#include "fuse-client/operations/directory_stream.h"
#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

using client::Attributes;
using client::DirectoryPage;

constexpr uint32_t kPageEntriesMax = 1024;
constexpr size_t kEntryBytesMin = 160;  // of the smallest READDIRPLUS entry

// One READDIR or READDIRPLUS on its way. The page and, for "..", the parent are asked for side by side; whoever comes
// last answers.
struct Listing {
  fuse_req_t request = nullptr;
  FuseMount* mount = nullptr;
  std::shared_ptr<DirectoryStream> stream;
  size_t bytes_max = 0;
  uint64_t offset = 0;
  bool with_attributes = false;

  std::atomic<int> answers_missing{0};
  InodeId parent;
  std::shared_ptr<const FetchedPage> page;
  Status error;  // of the page
};

void Reply(const Listing& listing, const DirectoryStream::Continuation& next) {
  FuseMount& mount = *listing.mount;
  DirectoryPacker packer(listing.bytes_max, listing.with_attributes, mount.nodes);
  const KernelView::Showing showing(mount.kernel);
  if (packer.AddDots(listing.offset, listing.stream->directory(), listing.parent)) {
    const double age_s = static_cast<double>(mount.clock.MonotonicNs() - next.page->fetched_ns) / 1e9;
    const size_t added = packer.AddEntries(next.entries(), [&](const client::DirectoryEntry& entry) {
      return showing.EntryTimeouts(listing.stream->directory(), entry.name, entry.attributes, age_s);
    });
    if (listing.with_attributes) {
      for (const client::DirectoryEntry& entry : next.entries().first(added)) mount.privileges.Learn(entry.attributes);
    }
  }
  fuse_reply_buf(listing.request, packer.bytes().data(), packer.bytes().size());
}

void OnAnswer(const std::shared_ptr<Listing>& listing) {
  if (listing->answers_missing.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  if (!listing->error.ok()) return ReplyStatus(listing->request, listing->error);
  listing->stream->Keep(listing->page);
  Reply(*listing, DirectoryStream::Continuation{listing->page, 0});
}

void FetchParent(const std::shared_ptr<Listing>& listing) {
  listing->mount->filesystem.GetAttributes(listing->stream->directory(), [listing](Result<Attributes> directory) {
    // Above the mount's root is not our business, and the number of ".." is only informative.
    const bool known = directory.ok() && directory->parent.valid() && directory->inode != listing->mount->nodes.root();
    if (known) listing->parent = directory->parent;
    OnAnswer(listing);
  });
}

void FetchPage(const std::shared_ptr<Listing>& listing, const DirectoryStream::Wanted& wanted) {
  const uint32_t entries_max = std::max(kPageEntriesMax, static_cast<uint32_t>(listing->bytes_max / kEntryBytesMin));
  listing->mount->filesystem.ReadDirectory(listing->stream->directory(), wanted.after_cookie, entries_max,
                                           wanted.with_attributes, [listing, wanted](Result<DirectoryPage> page) {
                                             if (page.ok()) {
                                               auto fetched = std::make_shared<FetchedPage>();
                                               fetched->after_cookie = wanted.after_cookie;
                                               fetched->with_attributes = wanted.with_attributes;
                                               fetched->changes = wanted.changes;
                                               fetched->fetched_ns = wanted.now_ns;
                                               fetched->page = std::move(page).value();
                                               listing->page = std::move(fetched);
                                             } else {
                                               listing->error = page.status();
                                             }
                                             OnAnswer(listing);
                                           });
}

void Read(fuse_req_t request, size_t size, off_t offset, const fuse_file_info* file, bool with_attributes) {
  FuseMount& mount = MountOf(request);
  auto listing = std::make_shared<Listing>();
  listing->stream = mount.directories.Find(file->fh);
  if (listing->stream == nullptr) {
    fuse_reply_err(request, EBADF);
    return;
  }
  listing->request = request;
  listing->mount = &mount;
  listing->bytes_max = size;
  listing->offset = static_cast<uint64_t>(offset);
  listing->with_attributes = with_attributes;
  listing->parent = listing->stream->directory();

  DirectoryStream::Wanted wanted;
  wanted.after_cookie = CookieOfOffset(listing->offset);
  wanted.with_attributes = with_attributes;
  wanted.changes = mount.changes.load(std::memory_order_acquire);
  wanted.now_ns = mount.clock.MonotonicNs();
  const bool wants_parent = listing->offset < kOffsetAfterDotDot;
  if (wants_parent) {
    listing->stream->Drop();
  } else if (const auto next = listing->stream->Continue(wanted)) {
    return Reply(*listing, *next);
  }
  listing->answers_missing = wants_parent ? 2 : 1;
  if (wants_parent) FetchParent(listing);
  FetchPage(listing, wanted);
}

void ReadDirectory(fuse_req_t request, fuse_ino_t /*node*/, size_t size, off_t offset, fuse_file_info* file) {
  Read(request, size, offset, file, false);
}

void ReadDirectoryPlus(fuse_req_t request, fuse_ino_t /*node*/, size_t size, off_t offset, fuse_file_info* file) {
  Read(request, size, offset, file, true);
}

void OpenDirectory(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  FuseMount& mount = MountOf(request);
  file->fh = mount.directories.Add(std::make_shared<DirectoryStream>(mount.nodes.ToInode(node)));
  file->cache_readdir = 0;
  file->keep_cache = 0;
  if (fuse_reply_open(request, file) != 0) mount.directories.Remove(file->fh);
}

void ReleaseDirectory(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file) {
  MountOf(request).directories.Remove(file->fh);
  fuse_reply_err(request, 0);
}

}  // namespace

void AddDirectoryOperations(fuse_lowlevel_ops* table) {
  table->opendir = &OpenDirectory;
  table->readdir = &ReadDirectory;
  table->readdirplus = &ReadDirectoryPlus;
  table->releasedir = &ReleaseDirectory;
}

}  // namespace tarn::fuse
