# The libraries that mad's headers use. All come from the distribution; nothing is downloaded.

# mad_find(<package> <least version> <Debian package> [CONFIG]) finds a package or says in words what to install.
macro(mad_find package least debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "mad: ${package} ${least} or later was not found.\n"
                        "On Debian or Ubuntu: apt-get install ${debian_package}\n"
                        "Elsewhere: install it and point CMAKE_PREFIX_PATH to it.")
  elseif(${package}_VERSION VERSION_LESS "${least}")
    message(FATAL_ERROR "mad: ${package} ${${package}_VERSION} was found in ${${package}_DIR}; "
                        "${least} or later is needed.")
  endif()
endmacro()

# Versions are compared here and not by the packages' own files: those reject a newer major version.
mad_find(Eigen3 3.4 libeigen3-dev CONFIG)
mad_find(nlohmann_json 3.10 nlohmann-json3-dev CONFIG)
mad_find(CLI11 2.1 libcli11-dev CONFIG)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
