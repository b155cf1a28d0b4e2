// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Datasets on disk, in the reference's layout: written whole, recognised by their setting, made again when damaged.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/files.hpp>
#include <mad/core/message.hpp>
#include <mad/tasks/any_task.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/tasks/npy.hpp>
#include <mad/tasks/path_names.hpp>
#include <mad/tasks/setting_json.hpp>

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mad::tasks {

/// Where a dataset came from.
enum class Origin {
  loaded,       ///< read from its folder
  generated,    ///< there was none; generated and written
  regenerated,  ///< there was one, but parts were missing, damaged or outdated; the whole was replaced
  adopted,      ///< arrays of another program, found to be exactly those of the setting and now labelled as such
};

/// A dataset, with the folder that holds it.
struct StoredDataset {
  Dataset data;
  std::filesystem::path folder;
  Origin origin = Origin::generated;
  std::string reason = {};  ///< if regenerated: what was wrong with the old one
};

/// The folder of a dataset below `data_path`: the reference's directory name. The reference gives both values of
/// `multi_query` the same name; here a single-query dataset has `_single-query` behind it, so that the order in which
/// two datasets are made can never matter.
inline std::filesystem::path dataset_folder(const std::filesystem::path& data_path, const Task& task,
                                            const Setting& setting) {
  const bool single_query = !setting.multi_query && task.uses("multi_query");
  return data_path / (data_directory_name(setting, task.shorthand) + (single_query ? "_single-query" : ""));
}

namespace detail {

struct ArrayFile {
  const char* name;
  Examples Dataset::*half;
  std::vector<std::int64_t> Examples::*array;
};

inline constexpr std::array<ArrayFile, 4> array_files{{
    {"train/inputs.npy", &Dataset::train, &Examples::inputs},
    {"train/targets.npy", &Dataset::train, &Examples::targets},
    {"test/inputs.npy", &Dataset::test, &Examples::inputs},
    {"test/targets.npy", &Dataset::test, &Examples::targets},
}};

inline constexpr const char* label_name = "setting.json";

/// Tells an array from a damaged one; not meant against intent. (FNV-1a on 64-bit words, with the high half folded.)
inline std::string checksum(std::span<const std::int64_t> array) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::int64_t value : array) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3u;
    hash ^= hash >> 32;
  }
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  return text.data();
}

/// The setting as it is stored: under the task's name, without a difference that makes none.
inline Setting stored_form(const Task& task, Setting setting) {
  setting.task = task.name;
  if (!task.uses("multi_query")) setting.multi_query = true;
  return setting;
}

inline nlohmann::ordered_json label(const Task& task, const Setting& setting, const Dataset& data) {
  nlohmann::ordered_json label;
  label["format"] = 1;
  label["version"] = task.version;
  label["setting"] = to_json(stored_form(task, setting));
  for (const ArrayFile& file : array_files) label["checksums"][file.name] = checksum(data.*file.half.*file.array);
  return label;
}

/// Reads the four arrays and checks that their shapes are those of the setting. \throws Error
inline Dataset read_arrays(const Task& task, const Setting& setting, const std::filesystem::path& folder) {
  Dataset data;
  data.train.rows = static_cast<Index>(setting.num_train_examples);
  data.test.rows = static_cast<Index>(setting.num_test_examples);
  data.train.columns = data.test.columns = static_cast<Index>(task.row_length(setting));
  for (const ArrayFile& file : array_files) {
    Examples& half = data.*file.half;
    NpyArray<std::int64_t> array = read_npy<std::int64_t>(folder / file.name);
    const std::vector<std::int64_t> expected{half.rows, half.columns};
    if (array.shape != expected) {
      std::string shape;
      for (const std::int64_t extent : array.shape) shape += message({shape.empty() ? "" : ", ", extent});
      throw Error(message({mad::detail::quoted(folder / file.name), ": shape is (", shape, "), must be (", expected[0],
                           ", ", expected[1], ") for this setting."}));
    }
    half.*file.array = std::move(array.data);
  }
  return data;
}

/// Throws unless the label is one for this task and setting. A label that cannot be understood is an `Error`; one that
/// plainly belongs to something else is a `UsageError`, since its data must not be overwritten.
inline void check_label(const nlohmann::json& label, const Task& task, const Setting& setting,
                        const std::filesystem::path& path) {
  const std::string name = mad::detail::quoted(path);
  if (!label.is_object() || label.value("format", nlohmann::json()) != 1 || !label.contains("setting") ||
      !label.contains("checksums")) {
    throw Error(name + ": not a label of format 1.");
  }
  const nlohmann::json found = label.at("setting");
  const nlohmann::ordered_json expected = to_json(stored_form(task, setting));
  for (const auto& [field, value] : expected.items()) {
    if (!found.contains(field)) throw Error(name + ": the setting has no '" + field + "'.");
    if (found.at(field) == nlohmann::json(value)) continue;
    throw UsageError(name + ": " + field + " is " + found.at(field).dump() + ", must be " + value.dump() +
                     ": the folder belongs to another dataset.\nChoose another data path, or move the folder away.");
  }
  if (label.value("version", nlohmann::json()) != task.version) {
    throw Error(name + ": the data are of another version of the task.");
  }
}

/// Reads a labelled dataset. \throws Error, or UsageError as `check_label`
inline Dataset read_labelled(const Task& task, const Setting& setting, const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / label_name;
  const nlohmann::json label = nlohmann::json::parse(read_file(path), nullptr, false);
  check_label(label, task, setting, path);
  Dataset data = read_arrays(task, setting, folder);
  for (const ArrayFile& file : array_files) {
    const nlohmann::json& checksums = label.at("checksums");
    if (!checksums.is_object() ||
        checksums.value(file.name, nlohmann::json()) != checksum(data.*file.half.*file.array)) {
      throw Error(mad::detail::quoted(folder / file.name) + ": the numbers are not those that were written.");
    }
  }
  return data;
}

/// A hidden folder beside its final place, removed again unless it is put there.
class TemporaryFolder {
public:
  explicit TemporaryFolder(const std::filesystem::path& destination) : destination_(destination) {
    require_writable_folder(destination.parent_path());
    path_ = sibling("tmp");
    make_folder(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Gives the folder its name. What had the name before is removed once the new one is there. \throws Error
  void publish() {
    if (put(path_, destination_)) return;
    // Something is there: damaged, or written a moment ago by another process, which is then as good as this.
    const std::filesystem::path old = sibling("old");
    const bool moved = put(destination_, old);
    const bool published = put(path_, destination_);
    if (moved && !published && put(old, destination_)) fail();
    std::error_code ignored;
    std::filesystem::remove_all(old, ignored);
    if (!published && !std::filesystem::is_directory(destination_, ignored)) fail();
  }

private:
  std::filesystem::path sibling(const char* ending) const {
    static std::atomic<unsigned> count{0};
    return destination_.parent_path() / ("." + destination_.filename().string() + "." + std::to_string(::getpid()) +
                                         "-" + std::to_string(count++) + "." + ending);
  }

  bool put(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::error_code error;
    std::filesystem::rename(from, to, error);
    if (error) error_ = error;
    return !error;
  }

  [[noreturn]] void fail() const {
    throw Error("cannot write " + mad::detail::quoted(destination_) + ": " + error_.message() +
                ". Correct its permissions or choose another data path.");
  }

  std::filesystem::path destination_;
  std::filesystem::path path_;
  std::error_code error_;  // why something could not be renamed
};

inline void write_arrays(const Task& task, const Setting& setting, const Dataset& data, TemporaryFolder& folder) {
  for (const ArrayFile& file : array_files) {
    const Examples& half = data.*file.half;
    const std::array<std::int64_t, 2> shape{half.rows, half.columns};
    write_npy(folder.path() / file.name, std::span<const std::int64_t>(half.*file.array),
              std::span<const std::int64_t>(shape));
  }
  write_file(folder.path() / label_name, label(task, setting, data).dump(2) + "\n");
  folder.publish();
}

}  // namespace detail

/// Writes a dataset to `folder` in one step, replacing what was there: `train/` and `test/`, each with `inputs.npy` and
/// `targets.npy`, and `setting.json`, which says what they are. \throws Error
inline void save_dataset(const Task& task, const Setting& setting, const Dataset& data,
                         const std::filesystem::path& folder) {
  detail::TemporaryFolder temporary(folder);
  detail::write_arrays(task, setting, data, temporary);
}

/// Reads a dataset that `save_dataset` wrote.
/// \throws UsageError if the folder holds the data of another task or setting; Error if it is missing, damaged, or made
/// by another version of the task.
inline Dataset load_dataset(const Task& task, const Setting& setting, const std::filesystem::path& folder) {
  task.validate(setting);
  return detail::read_labelled(task, setting, folder);
}

/// The data of a setting, from below `data_path` if they are there, whole and undamaged; else generated and written.
/// Training and test half are always made together: made alone, a half would come from other random numbers.
///
/// A folder of four arrays without `setting.json` (the reference writes such) is used if the arrays are exactly those
/// of the setting, and is an error otherwise; it is never overwritten.
/// \throws UsageError before any work if the setting is impossible, the path not writable, or the folder taken by
/// other data; Error if reading or writing fails.
inline StoredDataset load_or_generate(const Task& task, const Setting& setting,
                                      const std::filesystem::path& data_path) {
  namespace fs = std::filesystem;
  task.validate(setting);
  const fs::path folder = dataset_folder(data_path, task, setting);
  StoredDataset result{.data = {}, .folder = folder};

  std::error_code ignored;
  if (fs::exists(folder, ignored)) {
    if (!fs::is_directory(folder, ignored)) {
      throw UsageError(mad::detail::quoted(folder) +
                       " is not a folder, and the dataset belongs there.\nChoose another data path, or move it away.");
    }
    try {
      result.data = load_dataset(task, setting, folder);
      result.origin = Origin::loaded;
      return result;
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      result.origin = Origin::regenerated;
      result.reason = error.what();
    }
    std::optional<Dataset> unlabelled;
    if (!fs::exists(folder / detail::label_name, ignored)) {
      try {
        unlabelled = detail::read_arrays(task, setting, folder);
      } catch (const Error&) {
        // Not all four are there and of the right shape: the remains of something that was not finished.
      }
    }
    if (unlabelled) {
      result.data = task.generate(setting);
      if (result.data != *unlabelled) {
        throw UsageError(mad::detail::quoted(folder) +
                         " holds arrays without setting.json that are not those of this setting.\n"
                         "Choose another data path, or move the folder away.");
      }
      write_file(folder / detail::label_name, detail::label(task, setting, result.data).dump(2) + "\n");
      result.origin = Origin::adopted;
      return result;
    }
  }

  detail::TemporaryFolder temporary(folder);  // before the work, so that an unwritable path is found out first
  result.data = task.generate(setting);
  detail::write_arrays(task, setting, result.data, temporary);
  return result;
}

}  // namespace mad::tasks
