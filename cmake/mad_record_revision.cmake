# mad_record_revision(<target> [<source folder>]) lets mad::revision() in the program <target> name the git revision of
# the source folder (default: that of the calling CMakeLists.txt). It is looked up at every build; when it has changed,
# one small file is compiled again. Without git, or outside a git checkout, the revision is "unknown".
function(mad_record_revision target)
  set(source_folder "${CMAKE_CURRENT_SOURCE_DIR}")
  if(ARGC GREATER 1)
    set(source_folder "${ARGV1}")
  endif()
  set(file "${CMAKE_CURRENT_BINARY_DIR}/${target}_revision.cpp")
  find_package(Git QUIET)
  add_custom_target(
    ${target}_revision
    COMMAND "${CMAKE_COMMAND}" "-DGIT=${GIT_EXECUTABLE}" "-DSOURCE_FOLDER=${source_folder}" "-DFILE=${file}" -P
            "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/mad_write_revision.cmake"
    BYPRODUCTS "${file}"
    COMMENT "Looking up the revision of ${target}"
    VERBATIM)
  target_sources(${target} PRIVATE "${file}")
  add_dependencies(${target} ${target}_revision)
endfunction()
