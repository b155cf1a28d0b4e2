// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The datasets of a sweep, each read or generated once while runs need it.
#pragma once

#include <mad/cli/train_run.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace mad::cli {

/// Gives the runs of one setting, which follow each other in a plan or go side by side, the same data. Any thread may
/// ask.
class SharedData {
public:
  explicit SharedData(std::filesystem::path path) : path_(std::move(path)) {}

  /// \throws what `data_for` throws
  std::shared_ptr<const tasks::Dataset> get(const tasks::Task& task, const tasks::Setting& setting) {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<const tasks::Dataset>& known = known_[tasks::to_json(setting).dump()];
    latest_ = known.lock();
    if (latest_ == nullptr) {
      latest_ = std::make_shared<const tasks::Dataset>(data_for(task, setting, path_).data);
      known = latest_;
    }
    return latest_;
  }

private:
  std::filesystem::path path_;
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const tasks::Dataset>> known_;
  std::shared_ptr<const tasks::Dataset> latest_;  ///< kept until other data are asked for
};

}  // namespace mad::cli
