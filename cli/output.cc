#include "cli/output.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>

namespace tarn::cli {

std::string HumanBytes(uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::string HumanSeconds(int64_t seconds) {
  std::array<char, 48> text{};
  if (seconds >= 3600) {
    std::snprintf(text.data(), text.size(), "%ld:%02ld:%02ld", static_cast<long>(seconds / 3600), static_cast<long>(seconds / 60 % 60),
                  static_cast<long>(seconds % 60));
  } else {
    std::snprintf(text.data(), text.size(), "%ld:%02ld", static_cast<long>(seconds / 60), static_cast<long>(seconds % 60));
  }
  return text.data();
}

std::string HumanTime(int64_t time_ns) {
  const time_t seconds = time_ns / 1'000'000'000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return text.data();
}

std::string ModeString(char type, uint32_t mode) {
  std::string text(1, type);
  for (int shift = 6; shift >= 0; shift -= 3) {
    const uint32_t bits = mode >> shift;
    text += (bits & 4) != 0 ? 'r' : '-';
    text += (bits & 2) != 0 ? 'w' : '-';
    text += (bits & 1) != 0 ? 'x' : '-';
  }
  if ((mode & 04000) != 0) text[3] = text[3] == 'x' ? 's' : 'S';
  if ((mode & 02000) != 0) text[6] = text[6] == 'x' ? 's' : 'S';
  if ((mode & 01000) != 0) text[9] = text[9] == 'x' ? 't' : 'T';
  return text;
}

bool ParseBytes(const std::string& text, uint64_t* bytes) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return false;
  char* end = nullptr;
  const uint64_t number = std::strtoull(text.c_str(), &end, 10);
  std::string unit(end);
  for (const std::string suffix : {"iB", "B"}) {
    if (unit.size() > suffix.size() && unit.ends_with(suffix)) unit.resize(unit.size() - suffix.size());
  }
  const std::string kUnits = "KMGTP";
  int shift = 0;
  if (!unit.empty() && unit != "B") {
    const size_t position = kUnits.find(static_cast<char>(std::toupper(unit[0])));
    if (unit.size() != 1 || position == std::string::npos) return false;
    shift = 10 * (static_cast<int>(position) + 1);
  }
  if (number > (std::numeric_limits<uint64_t>::max() >> shift)) return false;
  *bytes = number << shift;
  return true;
}

std::string CopyProgressLine(uint64_t bytes_done, uint64_t bytes_total, uint64_t bytes_per_second, uint64_t eta_seconds) {
  constexpr uint64_t kBarCells = 20;
  const uint64_t done = std::min(bytes_done, bytes_total);
  const double share = bytes_total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(bytes_total);
  const auto cells = static_cast<size_t>(share * kBarCells);
  std::string line = "[" + std::string(cells, '#') + std::string(kBarCells - cells, ' ') + "] " + std::to_string(static_cast<int>(share * 100)) + " %, " +
                     HumanBytes(bytes_total - done) + " left";
  if (bytes_per_second != 0) line += ", " + HumanBytes(bytes_per_second) + "/s";
  if (eta_seconds != 0) line += ", " + HumanSeconds(static_cast<int64_t>(eta_seconds)) + " to go";
  return line;
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

}  // namespace tarn::cli
