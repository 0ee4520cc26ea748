// The backup file: records (common/io/record_file.h) that are BackupPiece messages, the header first.
#pragma once

#include <cstdint>

namespace tarn::meta {

inline constexpr char kBackupMagic[] = "TARNMBAK";
inline constexpr uint32_t kBackupVersion = 1;

}  // namespace tarn::meta
