# Install rules: headers, the package mad for find_package, and the program if it is built.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(mad_package_folder "${CMAKE_INSTALL_DATADIR}/cmake/mad")
install(TARGETS mad_library EXPORT mad-targets)
install(EXPORT mad-targets NAMESPACE mad:: DESTINATION "${mad_package_folder}" COMPONENT library)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/mad" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT library)

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/mad-config.cmake.in" "${PROJECT_BINARY_DIR}/mad-config.cmake"
                              INSTALL_DESTINATION "${mad_package_folder}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/mad-config-version.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(
  FILES "${PROJECT_BINARY_DIR}/mad-config.cmake" "${PROJECT_BINARY_DIR}/mad-config-version.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/mad_compiled.cmake" "${PROJECT_SOURCE_DIR}/cmake/mad_record_revision.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/mad_write_revision.cmake"
  DESTINATION "${mad_package_folder}"
  COMPONENT library)

if(TARGET mad)
  install(TARGETS mad RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT program)
endif()
