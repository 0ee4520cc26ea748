// The invariants of the metadata state that hold after every log entry, checked on all its keys:
//   - each name points at an inode that is there, and of the type that the name says;
//   - a file has as many links as names, a directory two and one per subdirectory; its size is its number of names;
//   - a directory other than a volume's root has one name, and lies where it says;
//   - an inode without a name is in somebody's list of orphans, and whatever is in a list is there and without a name;
//   - the volume's counters are the sums;
//   - remembered results belong to a session that is open.
// Pure functions.
#pragma once

#include <string>

#include "metaserver/state/memory_kv.h"
#include "tests/sim/namespace_model.h"

namespace tarn::sim {

// Empty if all hold, else the first that does not.
std::string CheckStructure(const meta::MemoryKv::Contents& contents);
// Empty if the names in the state are those of the model.
std::string CompareNames(const meta::MemoryKv::Contents& contents, const NamespaceModel& model);

}  // namespace tarn::sim
