# C++ from .proto files. Generated headers are included as "proto/x.pb.h" and lie under <build>/gen/proto.

find_program(TARN_PROTOC protoc REQUIRED)
find_program(TARN_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)

# tarn_proto_library(NAME x PROTOS a.proto b.proto [GRPC] [DEPS ...])
# Without GRPC: the messages (a.pb.h). With GRPC: only the services (a.grpc.pb.h); the library with the messages of
# the same files is then one of DEPS (tarn_proto unless said otherwise). So what needs no RPC never compiles gRPC.
function(tarn_proto_library)
  cmake_parse_arguments(ARG "GRPC" "NAME" "PROTOS;DEPS" ${ARGN})
  tarn_check_arguments()
  set(gen_dir "${CMAKE_BINARY_DIR}/gen")
  file(MAKE_DIRECTORY "${gen_dir}")
  if(ARG_GRPC)
    set(suffix .grpc.pb)
    set(generator "--plugin=protoc-gen-grpc=${TARN_GRPC_PLUGIN}" "--grpc_out=${gen_dir}")
    set(runtime tarn::grpc)
    if(NOT ARG_DEPS)
      set(ARG_DEPS tarn_proto)
    endif()
  else()
    set(suffix .pb)
    set(generator "--cpp_out=${gen_dir}")
    set(runtime tarn::protobuf)
  endif()

  cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY "${CMAKE_SOURCE_DIR}" OUTPUT_VARIABLE folder)
  list(TRANSFORM ARG_PROTOS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/" OUTPUT_VARIABLE all_protos)
  set(sources "")
  foreach(proto IN LISTS ARG_PROTOS)
    string(REGEX REPLACE "\\.proto$" "" stem "${folder}/${proto}")
    # Any of the files may import any other, hence the dependency on all of them.
    add_custom_command(
      OUTPUT "${gen_dir}/${stem}${suffix}.cc" "${gen_dir}/${stem}${suffix}.h"
      COMMAND "${TARN_PROTOC}" "-I${CMAKE_SOURCE_DIR}" ${generator} "${folder}/${proto}"
      WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
      DEPENDS ${all_protos}
      COMMENT "Generating ${stem}${suffix}.cc"
      VERBATIM)
    list(APPEND sources "${gen_dir}/${stem}${suffix}.cc")
  endforeach()

  add_library(${ARG_NAME} STATIC ${sources})
  target_compile_options(${ARG_NAME} PRIVATE -w)
  target_include_directories(${ARG_NAME} SYSTEM PUBLIC "${gen_dir}")
  target_link_libraries(${ARG_NAME} PUBLIC ${ARG_DEPS} ${runtime})
endfunction()
