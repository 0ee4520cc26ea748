#include "chunkserver/store/descriptor_bound.h"

#include <utility>

namespace tarn::store {

void DescriptorBound::Run() {
  while (!leaving_.empty() && leaving_.front().readers.passed()) leaving_.pop_front();
  const std::vector<std::shared_ptr<Segment>> segments = segments_->All();
  if (segments.size() <= descriptors_max_) return;
  // Whether a file is open is asked after whether it was used, since the question counts as a use.
  std::vector<std::pair<Segment*, bool>> open;
  for (const auto& segment : segments) {
    const bool was_used = segment->file->WasUsed();
    if (segment->file->OpenDescriptor() >= 0) open.emplace_back(segment.get(), was_used);
    (void)segment->file->WasUsed();
  }
  size_t count = open.size();
  Leaving leaving;
  for (const bool also_used : {false, true}) {
    for (const auto& [segment, was_used] : open) {
      if (count <= descriptors_max_) break;
      if (was_used != also_used || !log_->IsAtRest(*segment)) continue;
      leaving.descriptors.push_back(segment->file->Detach());
      --count;
    }
  }
  if (leaving.descriptors.empty()) return;
  // After the descriptors are out of reach: a lease taken from now on cannot have got them.
  leaving.readers = leases_->MakeBarrier();
  leaving_.push_back(std::move(leaving));
}

}  // namespace tarn::store
