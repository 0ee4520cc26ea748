#include "common/fault/fault_points.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace tarn::fault {
namespace {

Status Invalid(std::string_view rule, std::string_view reason) {
  return Status(StatusCode::kInvalidArgument, "fault '" + std::string(rule) + "': " + std::string(reason));
}

// The text up to `separator`, which is taken off `rest`; all of it if there is none.
std::string_view TakeUntil(std::string_view* rest, char separator) {
  const size_t end = rest->find(separator);
  const std::string_view head = rest->substr(0, end);
  *rest = end == std::string_view::npos ? std::string_view() : rest->substr(end + 1);
  return head;
}

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

Result<std::unique_ptr<FaultPoints>> FaultPoints::Parse(std::string_view spec, std::span<const FaultPointName> known) {
  auto points = std::make_unique<FaultPoints>();
  while (!spec.empty()) {
    ASSIGN_OR_RETURN(Rule rule, ParseRule(TakeUntil(&spec, ','), known));
    for (const Rule& earlier : points->rules_) {
      if (earlier.name == rule.name) return Invalid(rule.name, "is armed twice");
    }
    points->rules_.push_back(std::move(rule));
  }
  return points;
}

Result<FaultPoints::Rule> FaultPoints::ParseRule(std::string_view text, std::span<const FaultPointName> known) {
  std::string_view mode = text;
  const std::string_view name = TakeUntil(&mode, '=');
  const bool is_known =
      std::any_of(known.begin(), known.end(), [&](FaultPointName point) { return point.text == name; });
  if (!is_known) {
    std::string names;
    for (const FaultPointName& point : known) names.append(names.empty() ? "" : ", ").append(point.text);
    return Invalid(text, "no such point; there are: " + names);
  }
  Rule rule;
  rule.name = name;
  if (Status parsed = ParseMode(mode, &rule); !parsed.ok()) return Invalid(text, parsed.message());
  return rule;
}

Status FaultPoints::ParseMode(std::string_view mode, Rule* rule) {
  const std::string_view kind = TakeUntil(&mode, ':');
  if (kind == "always" && mode.empty()) return Status::Ok();
  if (kind == "once" && mode.empty()) {
    rule->only_time = 1;
    return Status::Ok();
  }
  if (kind == "nth") {
    rule->only_time = ParseNumber<uint64_t>(mode);
    if (rule->only_time.value_or(0) > 0) return Status::Ok();
  }
  if (kind == "probability") {
    const std::optional<double> probability = ParseNumber<double>(TakeUntil(&mode, ':'));
    const std::optional<uint64_t> seed = ParseNumber<uint64_t>(mode);
    if (probability.has_value() && *probability >= 0 && *probability <= 1 && seed.has_value()) {
      rule->probability = *probability;
      rule->generator.seed(*seed);
      return Status::Ok();
    }
  }
  return Status(StatusCode::kInvalidArgument,
                "the mode must be always, once, nth:N (from 1) or probability:P:SEED (P from 0 to 1)");
}

bool FaultPoints::FiresArmed(FaultPointName name) {
  MutexLock lock(mutex_);
  for (Rule& rule : rules_) {
    if (rule.name != name.text) continue;
    ++rule.counts.asked;
    bool fires = !rule.only_time.has_value() || rule.counts.asked == *rule.only_time;
    if (fires && rule.probability < 1.0) {
      fires = std::uniform_real_distribution<double>(0.0, 1.0)(rule.generator) < rule.probability;
    }
    if (fires) ++rule.counts.fired;
    return fires;
  }
  return false;
}

FaultPoints::Counts FaultPoints::CountsOf(FaultPointName name) const {
  MutexLock lock(mutex_);
  for (const Rule& rule : rules_) {
    if (rule.name == name.text) return rule.counts;
  }
  return {};
}

}  // namespace tarn::fault
