# Run by ctest: the README's program prints the same with the library (COMPILED) and with headers alone (HEADER_ONLY).
cmake_minimum_required(VERSION 3.25)

foreach(way COMPILED HEADER_ONLY)
  execute_process(COMMAND "${${way}}" OUTPUT_VARIABLE ${way}_printed COMMAND_ERROR_IS_FATAL ANY)
endforeach()
if(NOT COMPILED_printed MATCHES "best weights: test accuracy")
  message(FATAL_ERROR "With the library the program printed:\n${COMPILED_printed}")
endif()
if(NOT COMPILED_printed STREQUAL HEADER_ONLY_printed)
  message(FATAL_ERROR "With the library the program printed:\n${COMPILED_printed}With headers alone:\n${HEADER_ONLY_printed}")
endif()
