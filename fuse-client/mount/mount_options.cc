#include "fuse-client/mount/mount_options.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "fuse-client/mount/mount_spec.h"

namespace tarn::fuse {
namespace {

// Read by mount(8), systemd or the kernel's generic code, or already the way we work; nothing for us to do.
constexpr std::array kIgnoredOptions = {"defaults",   "auto",     "noauto",      "user",          "nouser",
                                        "users",      "owner",    "group",       "_netdev",       "nofail",
                                        "async",      "atime",    "noatime",     "nodiratime",    "relatime",
                                        "norelatime", "lazytime", "strictatime", "nostrictatime", "default_permissions",
                                        "loud",       "silent"};

struct Flag {
  std::string_view name;
  bool MountOptions::*member;
  bool value;
};
constexpr std::array kFlags = {
    Flag{"ro", &MountOptions::read_only, true},      Flag{"rw", &MountOptions::read_only, false},
    Flag{"suid", &MountOptions::suid, true},         Flag{"nosuid", &MountOptions::suid, false},
    Flag{"dev", &MountOptions::dev, true},           Flag{"nodev", &MountOptions::dev, false},
    Flag{"exec", &MountOptions::noexec, false},      Flag{"noexec", &MountOptions::noexec, true},
    Flag{"sync", &MountOptions::sync, true},         Flag{"dirsync", &MountOptions::dirsync, true},
    Flag{"nonempty", &MountOptions::nonempty, true}, Flag{"local_locks", &MountOptions::local_locks, true},
};

struct Timeout {
  std::string_view name;
  std::optional<double> MountOptions::*member;
};
constexpr std::array kTimeouts = {
    Timeout{"entry_timeout", &MountOptions::entry_timeout_s},
    Timeout{"attr_timeout", &MountOptions::attr_timeout_s},
    Timeout{"negative_timeout", &MountOptions::negative_timeout_s},
};

Status Invalid(std::string text) { return Status(StatusCode::kInvalidArgument, std::move(text)); }

Result<double> ParseSeconds(std::string_view name, std::string_view value) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc() || end != value.data() + value.size() || !(seconds >= 0 && seconds <= kTimeoutMaxSeconds)) {
    return Invalid(std::string(name) + "=" + std::string(value) +
                   ": must be a number of seconds from 0 to 1 (changes made on other clients must become visible)");
  }
  return seconds;
}

Status ApplyValue(std::string_view name, std::string_view value, MountOptions* options) {
  for (const Timeout& timeout : kTimeouts) {
    if (timeout.name != name) continue;
    ASSIGN_OR_RETURN(options->*timeout.member, ParseSeconds(name, value));
    return Status::Ok();
  }
  if (name == "memory_limit") {
    ASSIGN_OR_RETURN(options->memory_limit_bytes, ParseByteSize(value));
  } else if (name == "read_ahead_kb") {
    uint32_t kilobytes = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), kilobytes);
    if (error != std::errc() || end != value.data() + value.size() || kilobytes > kReadAheadKbMax) {
      return Invalid("read_ahead_kb=" + std::string(value) + ": must be a number from 0 to " +
                     std::to_string(kReadAheadKbMax));
    }
    options->read_ahead_kb = kilobytes;
  } else if (name == "meta") {
    ASSIGN_OR_RETURN(std::vector<std::string> addresses, ParseAddresses(value));
    options->metaservers.insert(options->metaservers.end(), addresses.begin(), addresses.end());
  } else if (name == "log_file") {
    options->log_file = std::string(value);
  } else if (name == "log_level") {
    options->log_level = std::string(value);
  } else if (name == "comment") {
  } else {
    return Invalid("unknown mount option '" + std::string(name) + "=" + std::string(value) + "'");
  }
  return Status::Ok();
}

Status ApplyOption(std::string_view option, MountOptions* options) {
  if (option.empty() || option.starts_with("x-") || option.starts_with("X-")) return Status::Ok();
  const size_t equals = option.find('=');
  if (equals != std::string_view::npos) return ApplyValue(option.substr(0, equals), option.substr(equals + 1), options);
  for (const Flag& flag : kFlags) {
    if (flag.name != option) continue;
    options->*flag.member = flag.value;
    return Status::Ok();
  }
  for (const char* ignored : kIgnoredOptions) {
    if (option == ignored) return Status::Ok();
  }
  if (option == "allow_other") {
    options->allow_other = true;
  } else if (option == "noallow_other") {
    options->allow_other = false;
  } else {
    return Invalid("unknown mount option '" + std::string(option) + "'");
  }
  return Status::Ok();
}

}  // namespace

Status ParseMountOptionList(std::string_view list, MountOptions* options) {
  std::string option;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i == list.size() || list[i] == ',') {
      RETURN_IF_ERROR(ApplyOption(option, options));
      option.clear();
    } else if (list[i] == '\\' && i + 1 < list.size()) {
      option.push_back(list[++i]);
    } else {
      option.push_back(list[i]);
    }
  }
  return Status::Ok();
}

Result<uint64_t> ParseByteSize(std::string_view text) {
  const Status wrong(StatusCode::kInvalidArgument, "'" + std::string(text) + "' is not a size (such as 512M or 2GiB)");
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !(number >= 0)) return wrong;
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  int power = 0;
  if (!unit.empty() && unit != "B") {
    const size_t index = std::string_view("KMGT").find(static_cast<char>(unit.front() & ~0x20));
    if (index == std::string_view::npos) return wrong;
    power = static_cast<int>(index) + 1;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "B" && unit != "iB") return wrong;
  }
  const double bytes = std::ldexp(number, 10 * power);
  if (bytes > std::ldexp(1.0, 62)) return wrong;
  return static_cast<uint64_t>(bytes);
}

}  // namespace tarn::fuse
