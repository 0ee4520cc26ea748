// The way to the cluster's admin services for a command.
#pragma once

#include <memory>

#include "cli/context.h"
#include "client/admin/admin_client.h"

namespace tarn::cli {

// Of the cluster that --meta, TARN_META or --dir names.
Result<std::unique_ptr<client::AdminClient>> ConnectAdmin(const Context& context);

}  // namespace tarn::cli
