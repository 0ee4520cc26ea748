#include "cli/admin.h"

#include <string>
#include <vector>

namespace tarn::cli {

Result<std::unique_ptr<client::AdminClient>> ConnectAdmin(const Context& context) {
  ASSIGN_OR_RETURN(const std::vector<std::string> addresses, MetaserverAddresses(context));
  return client::AdminClient::Connect(addresses);
}

}  // namespace tarn::cli
