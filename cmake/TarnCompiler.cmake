# Language level, warnings, sanitizers, output folders and the compiler cache, for every target of the tree.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

add_compile_options(-Wall -Wextra -Wshadow)
if(TARN_WERROR)
  add_compile_options(-Werror)
endif()

find_package(Threads REQUIRED)

if(TARN_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(TARN_SANITIZE STREQUAL "thread")
  # -Wno-tsan: g++ warns that it does not model atomic_thread_fence.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  add_link_options(-fsanitize=thread)
elseif(TARN_SANITIZE)
  message(FATAL_ERROR "TARN_SANITIZE must be address, thread or empty, not '${TARN_SANITIZE}'")
endif()

# The base directory and the ignored working directory let a second clone of the source hit the same cache entries.
# They are part of the launcher so that they hold however ninja is started.
if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(TARN_CCACHE ccache)
  if(TARN_CCACHE)
    set(tarn_launcher /usr/bin/env "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${TARN_CCACHE}")
    set(CMAKE_C_COMPILER_LAUNCHER ${tarn_launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${tarn_launcher})
  endif()
endif()
