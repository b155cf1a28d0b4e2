# Run by ctest: a program compiled for registers of another width than those of the LIBRARY does not link, and the error
# names the reason. Which of these processors is another one depends on how the library was built.
cmake_minimum_required(VERSION 3.25)

file(WRITE "${FOLDER}/other_processor.cpp" "#include <mad/compiled.hpp>\nint main() {}\n")
set(refused 0)
foreach(processor x86-64 x86-64-v3 x86-64-v4)
  set(object "${FOLDER}/other_processor_${processor}.o")
  execute_process(COMMAND "${COMPILER}" -std=c++20 -march=${processor} -DMAD_COMPILED -w -I "${INCLUDE}" -isystem "${EIGEN}"
                          -c "${FOLDER}/other_processor.cpp" -o "${object}" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND "${COMPILER}" "${object}" "${LIBRARY}" -pthread -o "${FOLDER}/other_processor_${processor}"
                  ERROR_VARIABLE error RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    math(EXPR refused "${refused} + 1")
    if(NOT error MATCHES "undefined reference to.*same_processor_options<")
      message(FATAL_ERROR "Compiled for ${processor}, the program did not link for another reason:\n${error}")
    endif()
  endif()
endforeach()
if(NOT refused EQUAL 2)
  message(FATAL_ERROR "Of three processors with registers of different widths the library refused ${refused}, expected: 2")
endif()
