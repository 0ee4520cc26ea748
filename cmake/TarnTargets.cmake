# The four kinds of targets of this tree. Every include path starts at the repository root.

# Built by scripts/quickstart.sh, which needs the programs but no test.
add_custom_target(tarn_programs)
add_custom_target(tarn_benchmarks)

# tarn_library(NAME tarn_x [SRCS ...] [HDRS ...] [DEPS ...] [PRIVATE_DEPS ...])
# A static library, or an interface library when it has no sources. DEPS are what its headers include.
function(tarn_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;HDRS;DEPS;PRIVATE_DEPS" ${ARGN})
  tarn_check_arguments()
  if(ARG_SRCS)
    add_library(${ARG_NAME} STATIC ${ARG_SRCS})
    set(scope PUBLIC)
    target_link_libraries(${ARG_NAME} PRIVATE ${ARG_PRIVATE_DEPS})
  else()
    add_library(${ARG_NAME} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${ARG_NAME} ${scope} "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} ${scope} ${ARG_DEPS})
  if(ARG_HDRS)
    target_sources(${ARG_NAME} ${scope} FILE_SET HEADERS BASE_DIRS "${CMAKE_SOURCE_DIR}" FILES ${ARG_HDRS})
  endif()
endfunction()

# tarn_binary(NAME tarn-x SRCS ... [HDRS ...] [DEPS ...]): a program in build/<preset>/bin/
function(tarn_binary)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;HDRS;DEPS" ${ARGN})
  tarn_check_arguments()
  tarn_verify_own_headers()
  add_executable(${ARG_NAME} ${ARG_SRCS})
  target_include_directories(${ARG_NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_compile_definitions(${ARG_NAME} PRIVATE TARN_VERSION="${PROJECT_VERSION}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} Threads::Threads)
  add_dependencies(tarn_programs ${ARG_NAME})
endfunction()

# tarn_test(NAME x_test SRCS ... [HDRS ...] [DEPS ...] [TIMEOUT seconds] [LABELS ...] [SERIAL])
# A GoogleTest program (gmock's main) that is one test of ctest. SERIAL: runs with no other test beside it.
function(tarn_test)
  cmake_parse_arguments(ARG "SERIAL" "NAME;TIMEOUT" "SRCS;HDRS;DEPS;LABELS" ${ARGN})
  tarn_check_arguments()
  tarn_verify_own_headers()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  tarn_find_gtest()
  add_executable(${ARG_NAME} ${ARG_SRCS})
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/test")
  target_include_directories(${ARG_NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} GTest::gmock_main)
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    RUN_SERIAL "${ARG_SERIAL}" ENVIRONMENT "${tarn_sanitizer_environment}")
endfunction()

# tarn_benchmark(NAME x_bench SRCS ... [DEPS ...]): a Google Benchmark program, built by name or by `tarn_benchmarks`.
function(tarn_benchmark)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  tarn_check_arguments()
  find_package(benchmark REQUIRED)
  add_executable(${ARG_NAME} EXCLUDE_FROM_ALL ${ARG_SRCS})
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/benchmark")
  target_include_directories(${ARG_NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} benchmark::benchmark_main benchmark::benchmark)
  add_dependencies(tarn_benchmarks ${ARG_NAME})
endfunction()

# Debian's gRPC is not instrumented: without these options ThreadSanitizer reports hundreds of races inside it.
if(TARN_SANITIZE STREQUAL "thread")
  set(tarn_sanitizer_environment
    "TSAN_OPTIONS=halt_on_error=1 ignore_noninstrumented_modules=1 suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan.supp")
elseif(TARN_SANITIZE STREQUAL "address")
  set(tarn_sanitizer_environment "UBSAN_OPTIONS=print_stacktrace=1")
endif()

# A macro: the imported targets of find_package are visible in the caller's directory only.
macro(tarn_find_gtest)
  if(NOT TARGET GTest::gmock_main)
    find_package(GTest REQUIRED)
  endif()
endmacro()

# CMake compiles the headers of libraries alone, so those of a program or a test get a library of their own.
macro(tarn_verify_own_headers)
  if(ARG_HDRS)
    tarn_library(NAME ${ARG_NAME}_headers HDRS ${ARG_HDRS} DEPS ${ARG_DEPS})
  endif()
endmacro()

macro(tarn_check_arguments)
  if(ARG_UNPARSED_ARGUMENTS OR NOT ARG_NAME)
    message(FATAL_ERROR "${CMAKE_CURRENT_FUNCTION}(${ARG_NAME}): unknown arguments '${ARG_UNPARSED_ARGUMENTS}'")
  endif()
endmacro()
