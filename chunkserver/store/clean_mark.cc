#include "chunkserver/store/clean_mark.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "common/checksum/block_sums.h"

namespace tarn::store {
namespace {

constexpr std::string_view kText = "clean\n";
constexpr std::string_view kMagic = "TRNW";
constexpr uint32_t kVersion = 1;
constexpr size_t kWindowHeadWords = 4;

template <typename Word>
void Append(Word word, std::string* out) {
  for (size_t i = 0; i < sizeof(word); ++i) out->push_back(static_cast<char>(word >> (8 * i)));
}

// Little-endian words from the front of the bytes; false: there are none left.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <typename Word>
  bool Take(Word* word) {
    if (bytes_.size() < sizeof(Word)) return false;
    *word = 0;
    for (size_t i = 0; i < sizeof(Word); ++i) *word |= static_cast<Word>(static_cast<uint8_t>(bytes_[i])) << (8 * i);
    bytes_.remove_prefix(sizeof(Word));
    return true;
  }
  size_t words_left() const { return bytes_.size() / sizeof(uint64_t); }

 private:
  std::string_view bytes_;
};

uint64_t SumOf(std::string_view bytes) { return Xxh3(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size())); }

bool TakeWindow(Reader* reader, GroupWindow* taken) {
  uint64_t group = 0, session = 0, acked_through = 0, count = 0;
  if (!reader->Take(&group) || !reader->Take(&session) || !reader->Take(&acked_through) || !reader->Take(&count)) return false;
  if (count > reader->words_left()) return false;
  taken->group = GroupId(static_cast<uint32_t>(group));
  taken->window = {SessionId(session), Sequence(acked_through), {}};
  taken->window.applied.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t sequence = 0;
    if (!reader->Take(&sequence)) return false;
    taken->window.applied.push_back(Sequence(sequence));
  }
  return true;
}

}  // namespace

std::string EncodeCleanMark(const std::vector<GroupWindow>& windows) {
  size_t words = 0, first = windows.size();
  while (first > 0) {
    words += kWindowHeadWords + windows[first - 1].window.applied.size();
    if (words * sizeof(uint64_t) > kCleanMarkBytesMax) break;
    --first;
  }
  std::string mark(kText);
  mark += kMagic;
  Append(kVersion, &mark);
  Append(uint64_t{windows.size() - first}, &mark);
  for (size_t i = first; i < windows.size(); ++i) {
    const SessionWindow& window = windows[i].window;
    Append(uint64_t{windows[i].group.value()}, &mark);
    Append(window.session.value(), &mark);
    Append(window.acked_through.value(), &mark);
    Append(uint64_t{window.applied.size()}, &mark);
    for (const Sequence sequence : window.applied) Append(sequence.value(), &mark);
  }
  Append(SumOf(mark), &mark);
  return mark;
}

Result<std::vector<GroupWindow>> DecodeCleanMark(std::string_view mark) {
  std::vector<GroupWindow> windows;
  if (mark == kText) return windows;
  const Status bad(StatusCode::kCorruption, "the mark of the clean shutdown is damaged");
  const size_t head_bytes = kText.size() + kMagic.size();
  if (mark.size() < head_bytes + sizeof(uint64_t) || mark.substr(kText.size(), kMagic.size()) != kMagic) return bad;
  const size_t sum_at = mark.size() - sizeof(uint64_t);
  uint64_t sum = 0;
  (void)Reader(mark.substr(sum_at)).Take(&sum);
  if (SumOf(mark.substr(0, sum_at)) != sum) return bad;
  Reader reader(mark.substr(head_bytes, sum_at - head_bytes));
  uint32_t version = 0;
  uint64_t count = 0;
  if (!reader.Take(&version) || !reader.Take(&count)) return bad;
  if (version != kVersion) return windows;  // of a later version: nothing is known
  for (uint64_t i = 0; i < count; ++i) {
    GroupWindow window;
    if (!TakeWindow(&reader, &window)) return bad;
    windows.push_back(std::move(window));
  }
  return windows;
}

}  // namespace tarn::store
