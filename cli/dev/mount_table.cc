#include "cli/dev/mount_table.h"

#include <fstream>
#include <sstream>

namespace tarn::cli {
namespace {

// proc(5): space, tab, newline and backslash appear as three octal digits.
std::string Unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<Mount> TarnMounts() {
  std::vector<Mount> mounts;
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  while (std::getline(table, line)) {
    // "36 35 98:0 /root /mount/point options [tags] - type source super-options"
    std::istringstream words(line);
    std::string id, parent, device, root, mount_point, word;
    words >> id >> parent >> device >> root >> mount_point;
    while (words >> word && word != "-") {
    }
    std::string type, source;
    words >> type >> source;
    if (type == "fuse.tarn") mounts.push_back({Unescape(mount_point), Unescape(source), device});
  }
  return mounts;
}

}  // namespace tarn::cli
