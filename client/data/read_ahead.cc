#include "client/data/read_ahead.h"

#include <algorithm>
#include <cstdlib>

namespace tarn::client {
namespace {

using Pattern = ReadAheadState::Pattern;

constexpr uint64_t kSlackBytesMin = 128 << 10;
constexpr uint64_t kSlackBytesMax = 4 << 20;
constexpr uint64_t kAlignmentSmall = 128 << 10;
constexpr uint64_t kAlignmentLarge = 1 << 20;
constexpr uint64_t kStrideRecordsMax = 16;

uint64_t Distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

// Reads of one stream arrive in slightly different order when several are under way.
uint64_t Slack(ByteRange read) { return std::clamp(read.length * 8, kSlackBytesMin, kSlackBytesMax); }

int64_t StepTo(const ReadAheadState& state, ByteRange read) {
  return static_cast<int64_t>(read.offset) - static_cast<int64_t>(state.last.offset);
}

Pattern Classify(const ReadAheadState& state, ByteRange read) {
  if (!state.any) return read.offset == 0 ? Pattern::kForward : Pattern::kNone;
  if (state.pattern == Pattern::kForward && Distance(read.offset, state.stream_position) <= Slack(read))
    return Pattern::kForward;
  if (state.pattern == Pattern::kBackward && Distance(read.end(), state.stream_position) <= Slack(read))
    return Pattern::kBackward;
  if (read.offset == state.last.end()) return Pattern::kForward;
  // Two equal steps in a row, that is, three reads.
  const int64_t step = StepTo(state, read);
  if (step == 0 || step != state.last_step || read.length != state.last.length) return Pattern::kNone;
  return read.end() == state.last.offset ? Pattern::kBackward : Pattern::kStrided;
}

void Remember(ReadAheadState& state, ByteRange read) {
  state.last_step = state.any ? StepTo(state, read) : 0;
  state.last = read;
  state.any = true;
}

void PlanForward(ReadAheadState& state, ByteRange read, uint64_t file_size, const ReadAheadLimits& limits,
                 ReadAheadPlan* plan) {
  state.stream_position = std::max(state.stream_position, read.end());
  plan->drop_before = read.offset > limits.keep_behind_bytes ? read.offset - limits.keep_behind_bytes : 0;
  const uint64_t begin = std::max(state.ahead_to, read.end());
  if (begin >= file_size || begin >= state.stream_position + state.window_bytes / 2 + 1) return;
  const uint64_t alignment = state.window_bytes >= kAlignmentLarge ? kAlignmentLarge : kAlignmentSmall;
  const uint64_t end = (state.stream_position + state.window_bytes + alignment - 1) / alignment * alignment;
  state.ahead_to = std::min(end, file_size);
  if (state.ahead_to > begin) plan->ahead.push_back({begin, state.ahead_to - begin});
  state.window_bytes = std::min(state.window_bytes * 2, limits.window_bytes_max);
}

void PlanBackward(ReadAheadState& state, ByteRange read, const ReadAheadLimits& limits, ReadAheadPlan* plan) {
  state.stream_position = std::min(state.stream_position, read.offset);
  const uint64_t end = std::min(state.ahead_to, read.offset);
  if (end == 0 || end + state.window_bytes / 2 < state.stream_position) return;
  const uint64_t begin = state.stream_position > state.window_bytes ? state.stream_position - state.window_bytes : 0;
  state.ahead_to = begin / kAlignmentSmall * kAlignmentSmall;
  if (end > state.ahead_to) plan->ahead.push_back({state.ahead_to, end - state.ahead_to});
  state.window_bytes = std::min(state.window_bytes * 2, limits.window_bytes_max);
}

// Up to kStrideRecordsMax records ahead, as many as the window holds.
void PlanStrided(ReadAheadState& state, ByteRange read, uint64_t file_size, const ReadAheadLimits& limits,
                 ReadAheadPlan* plan) {
  const int64_t step = state.last_step;
  const uint64_t records = std::clamp<uint64_t>(state.window_bytes / read.length, 1, kStrideRecordsMax);
  for (uint64_t i = 1; i <= records; ++i) {
    const int64_t offset = static_cast<int64_t>(read.offset) + step * static_cast<int64_t>(i);
    if (offset < 0 || static_cast<uint64_t>(offset) >= file_size) break;
    const auto record = static_cast<uint64_t>(offset);
    const bool is_ahead = step > 0 ? record >= state.ahead_to : record <= state.ahead_to;
    if (!is_ahead) continue;
    plan->ahead.push_back({record, std::min(read.length, file_size - record)});
    const int64_t next = offset + step;
    state.ahead_to = next < 0 ? 0 : static_cast<uint64_t>(next);
    if (next < 0) break;
  }
  state.window_bytes = std::min(state.window_bytes * 2, limits.window_bytes_max);
}

void StartPattern(ReadAheadState& state, Pattern pattern, ByteRange read, const ReadAheadLimits& limits) {
  state.pattern = pattern;
  state.window_bytes = std::min(limits.window_bytes_min, limits.window_bytes_max);
  state.stream_position = pattern == Pattern::kBackward ? read.offset : read.end();
  if (pattern == Pattern::kStrided) {
    state.ahead_to = static_cast<uint64_t>(std::max<int64_t>(0, static_cast<int64_t>(read.offset) + state.last_step));
  } else {
    state.ahead_to = state.stream_position;
  }
}

}  // namespace

ReadAheadPlan PlanRead(ReadAheadState& state, ByteRange read, uint64_t file_size, const ReadAheadLimits& limits) {
  ReadAheadPlan plan;
  plan.fetch = read;
  const bool first = !state.any;
  const Pattern pattern = limits.window_bytes_max == 0 ? Pattern::kNone : Classify(state, read);
  Remember(state, read);
  const bool whole_file = first && read.offset == 0 && file_size <= limits.small_file_bytes;
  if (whole_file && read.end() >= file_size) return plan;  // there is nothing to keep for later
  if (pattern != state.pattern) StartPattern(state, pattern, read, limits);
  if (pattern == Pattern::kNone) return plan;
  plan.use_cache = true;
  if (whole_file) {
    plan.fetch = {0, file_size};
    state.ahead_to = file_size;
    return plan;
  }
  switch (pattern) {
    case Pattern::kForward:
      PlanForward(state, read, file_size, limits, &plan);
      break;
    case Pattern::kBackward:
      PlanBackward(state, read, limits, &plan);
      break;
    case Pattern::kStrided:
      PlanStrided(state, read, file_size, limits, &plan);
      break;
    case Pattern::kNone:
      break;
  }
  return plan;
}

}  // namespace tarn::client
