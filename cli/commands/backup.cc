#include "cli/commands/backup.h"

#include <cstdio>

#include "cli/admin.h"
#include "cli/output.h"
#include "common/io/record_file.h"

namespace tarn::cli {
namespace {

constexpr char kBackupMagic[] = "TARNMBAK";  // docs/formats.md "Backup"

}  // namespace

Status RunMetaBackup(const Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(RecordFileWriter file, RecordFileWriter::Create(path, kBackupMagic));
  RETURN_IF_ERROR(admin->Backup([&](const std::string& record) { return file.Append(record); }));
  RETURN_IF_ERROR(file.Finish());
  if (context.json) {
    std::printf("{\"bytes\": %lu}\n", static_cast<unsigned long>(file.bytes()));
  } else {
    std::printf("%s: %s\n", path.c_str(), HumanBytes(file.bytes()).c_str());
  }
  return Status::Ok();
}

Status RunMetaReclaim(const Context& context, const std::string& how) {
  if (how != "on" && how != "off") return Status(StatusCode::kInvalidArgument, "'" + how + "' is neither on nor off");
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  RETURN_IF_ERROR(admin->SetReclaim(how == "on"));
  if (context.json) std::printf("{\"reclaim\": \"%s\"}\n", how.c_str());
  return Status::Ok();
}

}  // namespace tarn::cli
