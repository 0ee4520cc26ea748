// Printing for people: sizes, durations, tables. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::cli {

// "12.3 MiB"; bytes below 1 KiB plainly.
std::string HumanBytes(uint64_t bytes);
// "1:02:03" or "4:05".
std::string HumanSeconds(int64_t seconds);
// "2026-01-31 12:00:00" UTC.
std::string HumanTime(int64_t time_ns);
// "drwxr-xr-x" of a type letter and permission bits.
std::string ModeString(char type, uint32_t mode);

// Accepts 123, 64K, 1M, 10G, 2T (binary units, optional "iB" or "B"). False if `text` is none of these or too large.
bool ParseBytes(const std::string& text, uint64_t* bytes);

// "[#####     ] 50 %, 1.0 GiB left, 100.0 MiB/s, 0:10 to go"; without what is not known. An eta of 0 is not known.
std::string CopyProgressLine(uint64_t bytes_done, uint64_t bytes_total, uint64_t bytes_per_second, uint64_t eta_seconds);

// Columns as wide as their widest cell, two spaces between; the first row is the heading.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace tarn::cli
