# How our own programs are compiled: the program mad, examples, tests and benchmarks. Nothing here reaches a program
# that merely uses the library.
include(CheckCXXCompilerFlag)

set(CMAKE_CXX_EXTENSIONS OFF)

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(MAD_CCACHE ccache)
  if(MAD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${MAD_CCACHE}")
  endif()
endif()

# Link to mad_own for everything at once: the library, the warnings, the processor, the sanitizers.
add_library(mad_own INTERFACE)
target_link_libraries(mad_own INTERFACE mad_library)

# clang counts signed against unsigned as part of -Wconversion, g++ does not; both shall judge alike.
set(mad_warnings -Wall -Wextra -Wshadow -Wconversion $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-sign-conversion>)
target_compile_options(mad_own INTERFACE ${mad_warnings} $<$<BOOL:${MAD_WARNINGS_AS_ERRORS}>:-Werror>)

# g++ 12 takes the deliberately undefined registers inside its own AVX-512 functions for uninitialised variables of
# ours (GCC bug 105593, repaired later): thousands of warnings, none of them about our code.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(mad_own INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

if(MAD_NATIVE)
  check_cxx_compiler_flag(-march=native MAD_HAS_MARCH_NATIVE)
  if(MAD_HAS_MARCH_NATIVE)
    target_compile_options(mad_own INTERFACE -march=native)
  endif()
endif()

if(MAD_SANITIZE)
  # With the instrumentation in the way, g++ takes initialised variables of the standard library for uninitialised.
  target_compile_options(mad_own INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_compile_options(mad_own INTERFACE -fsanitize=${MAD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  # With these checks g++ 12 no longer takes the address of a constant for a constant, and operations are such addresses.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND MAD_SANITIZE MATCHES "undefined")
    target_compile_options(mad_own INTERFACE -fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute)
  endif()
  target_link_options(mad_own INTERFACE -fsanitize=${MAD_SANITIZE})
endif()
