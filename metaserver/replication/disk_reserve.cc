#include "metaserver/replication/disk_reserve.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <optional>

namespace tarn::meta {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kReserveBytesMax = 64 * kMiB;
constexpr uint64_t kReserveShareOfDisk = 32;
// A log is trimmed after tens of MiB, and a refused change is an entry as well.
constexpr uint64_t kGrowthReserves = 4;
constexpr uint64_t kAloneShareOfReserve = 4;

struct Disk {
  uint64_t available_bytes = 0;
  DiskLimits limits;
};

std::optional<Disk> Ask(const std::string& directory, uint64_t reserve_bytes) {
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0) return std::nullopt;
  return Disk{.available_bytes = uint64_t{disk.f_bavail} * disk.f_frsize,
              .limits = DiskLimitsFor(uint64_t{disk.f_blocks} * disk.f_frsize, reserve_bytes)};
}

}  // namespace

DiskLimits DiskLimitsFor(uint64_t capacity_bytes, uint64_t reserve_bytes) {
  const uint64_t reserve =
      reserve_bytes != 0 ? reserve_bytes : std::min(kReserveBytesMax, capacity_bytes / kReserveShareOfDisk);
  return {.growth = reserve > UINT64_MAX / kGrowthReserves ? UINT64_MAX : reserve * kGrowthReserves,
          .member = reserve,
          .alone = reserve / kAloneShareOfReserve};
}

Status DiskReserve::Check(bool alone) const {
  const std::optional<Disk> disk = Ask(directory_, reserve_bytes_);
  if (!disk) return Status::Ok();
  const uint64_t limit = alone ? disk->limits.alone : disk->limits.member;
  if (disk->available_bytes >= limit) return Status::Ok();
  return Status(StatusCode::kNoSpace, directory_ + ": less than " + std::to_string(limit >> 20) +
                                          " MiB are left on the disk of the metadata log");
}

bool DiskReserve::AllowsGrowth() const {
  const std::optional<Disk> disk = Ask(directory_, reserve_bytes_);
  return !disk || disk->available_bytes >= disk->limits.growth;
}

}  // namespace tarn::meta
