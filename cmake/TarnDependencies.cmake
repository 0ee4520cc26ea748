# Imported targets for the libraries that scripts/setup.sh installs:
#   tarn::protobuf tarn::grpc tarn::rocksdb tarn::xxhash tarn::uring tarn::raft tarn::fuse3 tarn::cli11 tarn::json,
#   and spdlog::spdlog (compiled, never header-only: that costs ten times the compile time).
#
# Each is looked up by its header and library rather than by its CMake package: gRPC's and RocksDB's packages search
# for dozens of others and take longer to configure than the whole tree. Imported targets are SYSTEM includes.

set(TARN_DEPS_DIR "${CMAKE_SOURCE_DIR}/build/deps" CACHE PATH "Where scripts/setup.sh puts libraries that it builds")

# tarn_import(NAME HEADER header LIBRARIES lib... [PREFIX dir] [DEPS target...])
function(tarn_import name)
  cmake_parse_arguments(ARG "" "HEADER;PREFIX" "LIBRARIES;DEPS" ${ARGN})
  string(MAKE_C_IDENTIFIER "TARN_${name}" id)
  find_path(${id}_INCLUDE ${ARG_HEADER} HINTS "${ARG_PREFIX}/include")
  if(NOT ${id}_INCLUDE)
    message(FATAL_ERROR "${ARG_HEADER} is missing: run scripts/setup.sh first")
  endif()
  add_library(tarn::${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(tarn::${name} SYSTEM INTERFACE "${${id}_INCLUDE}")
  foreach(library IN LISTS ARG_LIBRARIES)
    find_library(${id}_LIBRARY_${library} ${library} HINTS "${ARG_PREFIX}/lib")
    if(NOT ${id}_LIBRARY_${library})
      message(FATAL_ERROR "lib${library} is missing: run scripts/setup.sh first")
    endif()
    target_link_libraries(tarn::${name} INTERFACE "${${id}_LIBRARY_${library}}")
    mark_as_advanced(${id}_LIBRARY_${library})
  endforeach()
  target_link_libraries(tarn::${name} INTERFACE ${ARG_DEPS})
  mark_as_advanced(${id}_INCLUDE)
endfunction()

tarn_import(protobuf HEADER google/protobuf/message.h LIBRARIES protobuf DEPS Threads::Threads)
tarn_import(grpc HEADER grpcpp/grpcpp.h LIBRARIES grpc++ grpc gpr absl_synchronization DEPS tarn::protobuf)
tarn_import(rocksdb HEADER rocksdb/db.h LIBRARIES rocksdb DEPS Threads::Threads)
tarn_import(xxhash HEADER xxhash.h LIBRARIES xxhash)
tarn_import(uring HEADER liburing.h LIBRARIES uring)
tarn_import(cli11 HEADER CLI/CLI.hpp)
tarn_import(json HEADER nlohmann/json.hpp)
tarn_import(raft HEADER raft/uv.h LIBRARIES raft uv lz4 PREFIX "${TARN_DEPS_DIR}/raft")

find_package(spdlog REQUIRED)

# FUSE_USE_VERSION belongs to the target, since it must be the same in every file that includes libfuse's headers.
# TARN_FUSE_MODERN says whether passthrough, FUSE over io_uring and epoch invalidation can be compiled in.
if(EXISTS "${TARN_DEPS_DIR}/fuse3/lib/libfuse3.a")
  tarn_import(fuse3 HEADER fuse3/fuse_lowlevel.h LIBRARIES fuse3 PREFIX "${TARN_DEPS_DIR}/fuse3"
    DEPS tarn::uring Threads::Threads ${CMAKE_DL_LIBS} numa)
  target_compile_definitions(tarn::fuse3 INTERFACE FUSE_USE_VERSION=318 TARN_FUSE_MODERN=1)
elseif(EXISTS /usr/include/fuse3/fuse_lowlevel.h)
  message(WARNING "libfuse 3.18 is not in ${TARN_DEPS_DIR}/fuse3: using the distribution's libfuse3. The client is "
    "built without passthrough, FUSE over io_uring and epoch invalidation.")
  tarn_import(fuse3 HEADER fuse3/fuse_lowlevel.h LIBRARIES fuse3 DEPS Threads::Threads)
  target_compile_definitions(tarn::fuse3 INTERFACE FUSE_USE_VERSION=314 TARN_FUSE_MODERN=0)
else()
  message(FATAL_ERROR "libfuse 3 is missing: run scripts/setup.sh first")
endif()
