#include "metaserver/service/push_budget.h"

#include <algorithm>

namespace tarn::meta {

bool PushBudget::Charge(InodeId inode, size_t pushes, int64_t now_ns) {
  auto found = accounts_.find(inode);
  if (found == accounts_.end()) {
    if (accounts_.size() >= options_.tracked_max) return true;
    found = accounts_.emplace(inode, Account{.credit = options_.burst, .credited_ns = now_ns}).first;
  }
  Account& account = found->second;
  const double seconds = static_cast<double>(now_ns - account.credited_ns) / 1e9;
  account.credit = std::min(options_.burst, account.credit + seconds * options_.pushes_per_second);
  account.credited_ns = now_ns;
  const auto price = static_cast<double>(pushes);
  if (price <= account.credit) {
    account.credit -= price;
    return true;
  }
  const bool again = account.uncached_for_ns != 0 && now_ns < account.uncached_until_ns + options_.forgiven_after_ns;
  account.uncached_for_ns =
      again ? std::min(account.uncached_for_ns * 2, options_.uncached_max_ns) : options_.uncached_ns;
  account.uncached_until_ns = now_ns + account.uncached_for_ns;
  account.credit = options_.burst;
  return false;
}

bool PushBudget::IsUncached(InodeId inode, int64_t now_ns) const {
  if (accounts_.empty()) return false;
  const auto found = accounts_.find(inode);
  return found != accounts_.end() && now_ns < found->second.uncached_until_ns;
}

void PushBudget::Sweep(int64_t now_ns) {
  std::erase_if(accounts_, [&](const auto& each) {
    const Account& account = each.second;
    const int64_t quiet_ns = now_ns - std::max(account.credited_ns, account.uncached_until_ns);
    return quiet_ns > options_.forgiven_after_ns;
  });
}

}  // namespace tarn::meta
