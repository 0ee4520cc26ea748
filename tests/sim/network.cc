#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace tarn::sim {
namespace {

constexpr int64_t kRetransmissionNs = 20 * kMillisecond;

}  // namespace

int64_t Network::TransitTime() {
  Dice& dice = scheduler_->dice();
  if (dice.Chance(faults_.delay)) return dice.Between(faults_.latency_ns, 3 * kSecond);
  return dice.LongTailed(faults_.latency_ns);
}

void Network::Send(Endpoint from, Endpoint to, std::string_view kind, const std::function<void()>& deliver) {
  Dice& dice = scheduler_->dice();
  const std::pair link(from, to);
  scheduler_->Trace(kind, from, to);
  if (blocked_.contains(link)) return;
  if (dice.Chance(faults_.lose)) return;
  const int copies = dice.Chance(faults_.repeat) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    int64_t arrival_ns = scheduler_->now_ns() + TransitTime();
    if (!dice.Chance(faults_.reorder) && copy == 0) {
      int64_t& last_ns = last_arrival_ns_[link];
      // One that is very late does not hold up those behind it.
      if (arrival_ns < last_ns && last_ns - arrival_ns < 100 * kMillisecond) arrival_ns = last_ns;
      last_ns = arrival_ns;
    }
    scheduler_->At(arrival_ns, deliver);
  }
}

void Network::SendInOrder(Stream* stream, Endpoint from, Endpoint to, std::string_view kind,
                          std::function<void()> deliver) {
  scheduler_->Trace(kind, from, to);
  int64_t arrival_ns = scheduler_->now_ns() + TransitTime();
  for (int64_t again_ns = kRetransmissionNs; scheduler_->dice().Chance(faults_.lose); again_ns *= 2) arrival_ns += again_ns;
  if (!stream->frames.empty()) arrival_ns = std::max(arrival_ns, stream->frames.back().arrival_ns);
  stream->frames.push_back({arrival_ns, std::move(deliver)});
  Pump(stream, from, to);
}

void Network::Pump(Stream* stream, Endpoint from, Endpoint to) {
  if (stream->scheduled || stream->frames.empty()) return;
  stream->scheduled = true;
  // Held, so that the stream is there.
  scheduler_->At(stream->frames.front().arrival_ns, [this, stream, from, to, deliver = stream->frames.front().deliver] {
    stream->scheduled = false;
    if (blocked_.contains({from, to})) {
      stream->frames.front().arrival_ns = scheduler_->now_ns() + kRetransmissionNs;
      return Pump(stream, from, to);
    }
    stream->frames.pop_front();
    Pump(stream, from, to);
    deliver();
  });
}

Endpoint Network::DrawLonely(Endpoint leader) {
  Dice& dice = scheduler_->dice();
  const auto members = std::count_if(endpoints_.begin(), endpoints_.end(), [](Endpoint e) { return e < kFirstClient; });
  const Endpoint any = 1 + dice.Below(static_cast<uint64_t>(members));
  return leader != 0 && dice.Chance(0.5) ? leader : any;
}

void Network::Partition(Endpoint leader) {
  Dice& dice = scheduler_->dice();
  blocked_.clear();
  const bool one_way = dice.Chance(0.3);
  const bool members_only = dice.Chance(0.5);
  std::map<Endpoint, bool> side;
  if (dice.Chance(0.4)) {
    // One member alone.
    const Endpoint lonely = DrawLonely(leader);
    const bool with_clients = dice.Chance(0.5);
    for (const Endpoint e : endpoints_)
      side[e] = e == lonely || (with_clients && e >= kFirstClient && dice.Chance(0.5));
  } else {
    for (const Endpoint e : endpoints_) side[e] = dice.Chance(0.5);
  }
  for (const Endpoint from : endpoints_) {
    for (const Endpoint to : endpoints_) {
      if (side[from] == side[to] || (one_way && side[from])) continue;
      if (members_only && (from >= kFirstClient || to >= kFirstClient)) continue;
      blocked_.emplace(from, to);
    }
  }
}

void Network::EndFaults() {
  faults_ = FaultPlan();
  faults_.latency_ns = 200 * kMicrosecond;
  blocked_.clear();
}

}  // namespace tarn::sim
