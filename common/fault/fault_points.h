// Named places where a test can make a server fail, armed by a spec string:
//
//   store.skip_sync=always            every time
//   store.write_error=once            the first time only
//   store.read_error=nth:3            the third time only
//   store.write_error=probability:0.01:42   each time with that probability, from a generator with that seed
//   rules are separated by commas: store.skip_sync=always,store.read_error=once
//
// An object made by main and handed down by constructor. The points themselves are constants beside the code that asks:
//   inline constexpr FaultPointName kSkipSync{"store.skip_sync"};
//   if (faults.Fires(kSkipSync)) ...
// Binaries refuse a spec unless they were started with --allow-faults.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::fault {

// A name of the form component.point. Refers to a string literal.
struct FaultPointName {
  std::string_view text;
};

// Thread-safe. One branch per question while nothing is armed.
class FaultPoints {
 public:
  // Nothing armed.
  FaultPoints() = default;
  // kInvalidArgument, naming the rule: bad grammar, a name that is not among `known`, or a name twice. An empty spec arms nothing.
  static Result<std::unique_ptr<FaultPoints>> Parse(std::string_view spec, std::span<const FaultPointName> known);

  FaultPoints(const FaultPoints&) = delete;
  FaultPoints& operator=(const FaultPoints&) = delete;

  // True if the caller shall fail now. Each call counts.
  bool Fires(FaultPointName name) {
    if (rules_.empty()) [[likely]] {
      return false;
    }
    return FiresArmed(name);
  }
  bool armed() const { return !rules_.empty(); }

  // How often the point was asked and how often it fired; 0 for one that is not armed.
  struct Counts {
    uint64_t asked = 0;
    uint64_t fired = 0;
  };
  Counts CountsOf(FaultPointName name) const;

 private:
  struct Rule {
    std::string name;
    std::optional<uint64_t> only_time;  // fires at this count of questions only (1 = the first)
    double probability = 1.0;
    std::mt19937_64 generator;
    Counts counts;
  };

  static Result<Rule> ParseRule(std::string_view text, std::span<const FaultPointName> known);
  static Status ParseMode(std::string_view mode, Rule* rule);
  bool FiresArmed(FaultPointName name);

  mutable Mutex mutex_;
  // The set of rules is immutable after construction (hence the unguarded question whether it is empty); their counts and generators
  // are guarded by mutex_.
  std::vector<Rule> rules_;
};

}  // namespace tarn::fault
