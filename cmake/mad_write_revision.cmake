# Run by mad_record_revision at every build: writes FILE, only if its contents change.
cmake_minimum_required(VERSION 3.25)

set(revision "")
if(GIT)
  execute_process(
    COMMAND "${GIT}" --no-optional-locks describe --always --dirty --abbrev=12 "--exclude=*"
    WORKING_DIRECTORY "${SOURCE_FOLDER}"
    OUTPUT_VARIABLE revision
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
endif()
if(NOT revision MATCHES "^[0-9a-f]+(-dirty)?$")
  set(revision "unknown")
endif()
file(CONFIGURE OUTPUT "${FILE}" @ONLY CONTENT [==[
#include <mad/core/version.hpp>
namespace {
[[maybe_unused]] const bool recorded = mad::record_revision("@revision@");
}
]==])
