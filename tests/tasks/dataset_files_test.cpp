// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "tasks/scratch_folder.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/dataset_files.hpp>
#include <mad/tasks/registry.hpp>

#include <array>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

using namespace mad::tasks;
using namespace mad::testing;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

const Task& recall() { return find_task("CR"); }

Setting small() { return {.seq_len = 16, .num_train_examples = 5, .num_test_examples = 3}; }

/// A task that counts how often it makes a dataset, and whose data can be changed.
struct Counted {
  static constexpr std::string_view name = "counted";
  static inline int made = 0;
  static inline int content = 1;
  static void validate(const Setting&) {}
  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }
  explicit Counted(const Setting&) { ++made; }
  void make(Streams&, Mode, Example row) { row.inputs[0] = content; }
};

}  // namespace

TEST_CASE("a dataset lies where the reference puts it, in files numpy reads") {
  const ScratchFolder scratch;
  const StoredDataset first = load_or_generate(recall(), small(), scratch.path());
  const fs::path folder = scratch.path() / "t-CR_vs-16_sl-16_ntr-5_nte-3_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_s-12345";
  CHECK(first.origin == Origin::generated);
  CHECK(first.folder == folder);
  CHECK(first.data == generate(small()));
  const auto inputs = read_npy<std::int64_t>(folder / "train" / "inputs.npy");
  CHECK(inputs.shape == std::vector<std::int64_t>{5, 15});
  CHECK(inputs.data == first.data.train.inputs);
  CHECK(read_npy<std::int64_t>(folder / "train" / "targets.npy").data == first.data.train.targets);
  CHECK(read_npy<std::int64_t>(folder / "test" / "inputs.npy").data == first.data.test.inputs);
  CHECK(read_npy<std::int64_t>(folder / "test" / "targets.npy").data == first.data.test.targets);
  CHECK(scratch.size() == 1);  // nothing temporary is left

  const StoredDataset second = load_or_generate(recall(), small(), scratch.path());
  CHECK(second.origin == Origin::loaded);
  CHECK(second.data == first.data);
  CHECK(load_dataset(recall(), small(), folder) == first.data);
}

TEST_CASE("a dataset that is there is not generated again") {
  const ScratchFolder scratch;
  const Task task = task_of<Counted>();
  Counted::made = 0;
  load_or_generate(task, small(), scratch.path());
  CHECK(Counted::made == 1);
  CHECK(load_or_generate(task, small(), scratch.path()).origin == Origin::loaded);
  CHECK(Counted::made == 1);
}

TEST_CASE("single and multiple queries are never confused, in whichever order they are made") {
  for (const bool multi_query_first : {true, false}) {
    const ScratchFolder scratch;
    Setting setting = small();
    setting.task = "fuzzy-in-context-recall";  // both forms have the same shape
    for (const bool multi_query : {multi_query_first, !multi_query_first}) {
      setting.multi_query = multi_query;
      const StoredDataset stored = load_or_generate(find_task("FR"), setting, scratch.path());
      CHECK(stored.origin == Origin::generated);
      CHECK(stored.data == generate(setting));
    }
    for (const bool multi_query : {true, false}) {
      setting.multi_query = multi_query;
      const StoredDataset stored = load_or_generate(find_task("FR"), setting, scratch.path());
      CHECK(stored.origin == Origin::loaded);
      CHECK(stored.data == generate(setting));
    }
  }
}

TEST_CASE("a field that a task does not use and its folder does not show makes no second dataset") {
  const ScratchFolder scratch;
  Setting setting = small();
  load_or_generate(find_task("C"), setting, scratch.path());
  setting.multi_query = false;
  setting.task = "C";
  CHECK(load_or_generate(find_task("C"), setting, scratch.path()).origin == Origin::loaded);
}

TEST_CASE("whatever is missing or damaged, the whole is made again") {
  const ScratchFolder scratch;
  const StoredDataset good = load_or_generate(recall(), small(), scratch.path());
  const auto damage = [&](const std::string& what, auto&& change) {
    INFO(what);
    change(good.folder);
    CHECK_THROWS_AS(load_dataset(recall(), small(), good.folder), mad::Error);
    const StoredDataset again = load_or_generate(recall(), small(), scratch.path());
    CHECK(again.origin == Origin::regenerated);
    CHECK_FALSE(again.reason.empty());
    CHECK(again.data == good.data);
    CHECK(load_or_generate(recall(), small(), scratch.path()).origin == Origin::loaded);
    CHECK(load_dataset(recall(), small(), good.folder) == good.data);
    CHECK(scratch.size() == 1);
  };
  for (const std::string file : {"train/inputs.npy", "train/targets.npy", "test/inputs.npy", "test/targets.npy"}) {
    damage("missing " + file, [&](const fs::path& folder) { fs::remove(folder / file); });
    damage("cut " + file, [&](const fs::path& folder) { fs::resize_file(folder / file, 200); });
    damage("empty " + file, [&](const fs::path& folder) { fs::resize_file(folder / file, 0); });
    damage("changed " + file, [&](const fs::path& folder) {
      std::string bytes = bytes_of(folder / file);
      bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 4);
      put_bytes(folder / file, bytes);
    });
  }
  damage("no test half", [](const fs::path& folder) { fs::remove_all(folder / "test"); });
  damage("no test half, no label", [](const fs::path& folder) {
    fs::remove_all(folder / "test");
    fs::remove(folder / "setting.json");
  });
  damage("halves of another shape", [](const fs::path& folder) {
    write_npy<std::int64_t>(folder / "test" / "inputs.npy", {{1, 2}, {3, 4}});
  });
  damage("empty folder", [](const fs::path& folder) {
    fs::remove_all(folder);
    fs::create_directory(folder);
  });
  for (const char* label : {"", "{", "[]", "{}", "null", R"({"format": 2})", R"({"format": 1, "setting": 3})",
                            R"({"format": 1, "setting": {}, "checksums": 0})"}) {
    damage(std::string("label ") + label, [&](const fs::path& folder) { put_bytes(folder / "setting.json", label); });
  }
}

TEST_CASE("data of another version of a task are made again") {
  const ScratchFolder scratch;
  Task task = task_of<Counted>();
  Counted::content = 1;
  load_or_generate(task, small(), scratch.path());
  Counted::content = 2;
  CHECK(load_or_generate(task, small(), scratch.path()).data.train.inputs[0] == 1);
  task.version = 2;
  const StoredDataset renewed = load_or_generate(task, small(), scratch.path());
  CHECK(renewed.origin == Origin::regenerated);
  CHECK_THAT(renewed.reason, ContainsSubstring("another version"));
  CHECK(renewed.data.train.inputs[0] == 2);
  CHECK(load_or_generate(task, small(), scratch.path()).origin == Origin::loaded);
  Counted::content = 1;
}

TEST_CASE("data of something else in the folder are refused and left alone") {
  const ScratchFolder scratch;
  const StoredDataset mine = load_or_generate(recall(), small(), scratch.path());
  Task impostor = task_of<Counted>();  // of the same shorthand, so of the same folder
  impostor.shorthand = "CR";
  CHECK_THROWS_WITH(load_or_generate(impostor, small(), scratch.path()),
                    ContainsSubstring("task is \"in-context-recall\", must be \"counted\""));

  Setting other = small();
  other.seed = 1;
  const fs::path other_folder = dataset_folder(scratch.path(), recall(), other);
  fs::rename(mine.folder, other_folder);
  const std::string before = bytes_of(other_folder / "test" / "inputs.npy");
  CHECK_THROWS_AS(load_or_generate(recall(), other, scratch.path()), mad::UsageError);
  CHECK_THROWS_WITH(load_or_generate(recall(), other, scratch.path()),
                    ContainsSubstring("setting.json': seed is 12345, must be 1"));
  CHECK_THROWS_AS(load_dataset(recall(), other, other_folder), mad::UsageError);
  CHECK(bytes_of(other_folder / "test" / "inputs.npy") == before);
}

TEST_CASE("arrays of the reference are adopted if they are right and refused if they are not") {
  const ScratchFolder scratch;
  const StoredDataset good = load_or_generate(recall(), small(), scratch.path());
  fs::remove(good.folder / "setting.json");
  const StoredDataset adopted = load_or_generate(recall(), small(), scratch.path());
  CHECK(adopted.origin == Origin::adopted);
  CHECK(adopted.data == good.data);
  CHECK(load_or_generate(recall(), small(), scratch.path()).origin == Origin::loaded);

  fs::remove(good.folder / "setting.json");
  std::vector<std::int64_t> changed = good.data.test.targets;
  changed[3] ^= 1;
  write_npy<std::int64_t>(good.folder / "test" / "targets.npy", {{3, 15}, changed});
  CHECK_THROWS_WITH(load_or_generate(recall(), small(), scratch.path()), ContainsSubstring("without setting.json"));
  CHECK(read_npy<std::int64_t>(good.folder / "test" / "targets.npy").data == changed);
}

TEST_CASE("an impossible path is refused before the data are generated") {
  const ScratchFolder scratch;
  Counted::made = 0;
  const Task task = task_of<Counted>();
  put_bytes(scratch.path() / "file", "");
  CHECK_THROWS_AS(load_or_generate(task, small(), scratch.path() / "file"), mad::UsageError);
  put_bytes(dataset_folder(scratch.path(), task, small()), "");
  CHECK_THROWS_WITH(load_or_generate(task, small(), scratch.path()), ContainsSubstring("is not a folder"));
  CHECK(Counted::made == 0);
  CHECK(bytes_of(dataset_folder(scratch.path(), task, small())).empty());
  Setting impossible = small();
  impossible.seq_len = 15;
  CHECK_THROWS_AS(load_or_generate(recall(), impossible, scratch.path() / "unused"), mad::UsageError);
  CHECK_FALSE(fs::exists(scratch.path() / "unused"));
}

TEST_CASE("a failure while generating leaves nothing behind") {
  const ScratchFolder scratch;
  Setting setting = small();
  setting.frac_noise = 0.99;  // sooner or later a context of nothing but noise
  setting.noise_vocab_size = 4;
  setting.seq_len = 4;
  setting.num_train_examples = 1000;
  CHECK_THROWS_AS(load_or_generate(recall(), setting, scratch.path()), mad::Error);
  CHECK(scratch.size() == 0);
}

TEST_CASE("several at once all get the data, and one whole dataset is left") {
  for (const bool damaged_before : {false, true}) {
    const ScratchFolder scratch;
    if (damaged_before) {
      fs::remove(load_or_generate(recall(), small(), scratch.path()).folder / "test" / "inputs.npy");
    }
    const Dataset expected = generate(small());
    std::array<bool, 8> equal{};
    std::vector<std::thread> threads;
    for (bool& result : equal) {
      threads.emplace_back([&] { result = load_or_generate(recall(), small(), scratch.path()).data == expected; });
    }
    for (std::thread& thread : threads) thread.join();
    for (const bool result : equal) CHECK(result);
    CHECK(scratch.size() == 1);
    CHECK(load_or_generate(recall(), small(), scratch.path()).origin == Origin::loaded);
  }
}

TEST_CASE("saving replaces what was there") {
  const ScratchFolder scratch;
  const fs::path folder = scratch.path() / "anywhere" / "data";
  Setting setting = small();
  save_dataset(recall(), setting, generate(setting), folder);
  setting.seed = 2;
  save_dataset(recall(), setting, generate(setting), folder);
  CHECK(load_dataset(recall(), setting, folder) == generate(setting));
  CHECK_THROWS_AS(load_dataset(recall(), small(), folder), mad::UsageError);
}
