# mad::compiled: mad::mad and, compiled once, what does not depend on a program's own types (include/mad/compiled.hpp and
# the command line). Programs that link it compile in half the time. It is built where it is used, with the options of
# that project, and only if something links it. Shared by mad's own build and by the installed package.
if(NOT TARGET mad_compiled)
  foreach(part library command_line)
    set(mad_compiled_${part} "${CMAKE_CURRENT_BINARY_DIR}/mad_compiled_${part}.cpp")
  endforeach()
  file(CONFIGURE OUTPUT "${mad_compiled_library}" @ONLY
       CONTENT "#define MAD_COMPILED_LIBRARY\n#include <mad/compiled.hpp>\n")
  file(CONFIGURE OUTPUT "${mad_compiled_command_line}" @ONLY
       CONTENT "#define MAD_COMPILED_COMMAND_LINE\n#include <mad/cli/main.hpp>\n")
  add_library(mad_compiled STATIC EXCLUDE_FROM_ALL "${mad_compiled_command_line}" "${mad_compiled_library}")
  # Nothing in the command line takes time when it runs, much of it when it is optimised.
  set_source_files_properties("${mad_compiled_command_line}" PROPERTIES COMPILE_OPTIONS "$<$<NOT:$<CONFIG:Debug>>:-O1>")
  target_compile_definitions(mad_compiled PUBLIC MAD_COMPILED)
  target_link_libraries(mad_compiled PUBLIC mad::mad)
  add_library(mad::compiled ALIAS mad_compiled)
endif()

# mad::cuda_compiled: mad::cuda and, compiled once, models, training and backbones of the CUDA device for the usual
# widths. It is there where mad::cuda is and the project has the language CUDA.
if(TARGET mad::cuda AND CMAKE_CUDA_COMPILER AND NOT TARGET mad_cuda_compiled)
  set(mad_cuda_compiled_library "${CMAKE_CURRENT_BINARY_DIR}/mad_cuda_compiled_library.cu")
  file(CONFIGURE OUTPUT "${mad_cuda_compiled_library}" @ONLY
       CONTENT "#define MAD_COMPILED_LIBRARY\n#include <mad/cuda/registration.cuh>\n")
  add_library(mad_cuda_compiled STATIC EXCLUDE_FROM_ALL "${mad_cuda_compiled_library}")
  target_compile_definitions(mad_cuda_compiled PUBLIC MAD_CUDA_COMPILED)
  target_link_libraries(mad_cuda_compiled PUBLIC mad::cuda)
  add_library(mad::cuda_compiled ALIAS mad_cuda_compiled)
endif()
