#include "common/base/random.h"

#include <sys/random.h>

#include "common/base/check.h"

namespace tarn {

uint64_t SystemRandom::Next() {
  uint64_t value = 0;
  // Eight bytes are never cut short once the kernel's pool is ready (getrandom(2)).
  CHECK(getrandom(&value, sizeof(value), 0) == sizeof(value), "getrandom(2) gave too few bytes");
  return value;
}

}  // namespace tarn
