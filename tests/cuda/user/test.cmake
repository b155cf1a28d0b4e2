# Run by ctest: a user's PROGRAM trains on the device, in a new FOLDER.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${FOLDER}")
execute_process(
  COMMAND "${PROGRAM}" train --task in-context-recall --device cuda --epochs 1 --num-train-examples 256
          --num-test-examples 64 --no-cache --log-path "${FOLDER}"
  OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE status)
if(status EQUAL 2 AND output MATCHES "^mad: device cuda: (no NVIDIA driver is installed|this machine shows no NVIDIA GPU)")
  message("skipped: this machine has no GPU")
elseif(NOT status EQUAL 0)
  message(FATAL_ERROR "The program ended with ${status} and printed:\n${output}")
elseif(NOT EXISTS "${FOLDER}/results.csv")
  message(FATAL_ERROR "The program left no results.csv in ${FOLDER}; it printed:\n${output}")
endif()
