// SPDX-License-Identifier: MIT
/// @file
/// @brief Runs of train_stories as users start them, on a small part of the demo corpus, and whether two ended alike.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/checkpoint.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>

#include "io_support.hpp"
#include "process_support.hpp"

namespace storylm::test {

/// Runs a line of shell.
inline Result shell(const std::string& command) {
  const TemporaryFolder folder;
  Process process({"/bin/sh", "-c", command}, folder / "out", folder / "err");
  const int code = process.wait();
  return {code, read_bytes(folder / "out"), read_bytes(folder / "err")};
}
inline const std::string program = "'" STORYLM_BIN_DIR "/train_stories'";

/// Threads that wait give way, as CTest has it: other tests may run beside this one.
[[maybe_unused]] inline const int passive = ::setenv("OMP_WAIT_POLICY", "passive", 0);

inline std::ptrdiff_t line_count(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

/// stories.tokens of 20,000 stories, 100 of which are to validate, so that a validation takes as long as some steps.
inline const std::filesystem::path& data() {
  static const TemporaryFolder folder;
  static const std::filesystem::path path = [] {
    const std::string shards = (folder / "shards").string();
    const Result made = shell("'" STORYLM_BIN_DIR "/make_stories' --count 20000 --output-dir '" + shards +
                              "' && '" STORYLM_BIN_DIR "/prepare_stories' --vocab-size 512 --input '" + shards +
                              "' --output-dir '" + (folder / "data").string() + "'");
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    return folder / "data";
  }();
  return path;
}

using Flags = std::vector<std::pair<std::string, std::string>>;

/// The program and the flags of every run here: two micro-batches a step, a validation every sixth. `others` come
/// instead of these or beside them.
inline std::vector<std::string> arguments(const std::filesystem::path& run, int steps, const Flags& others = {}) {
  Flags flags{{"--data-dir", data().string()},
              {"--run-dir", run.string()},
              {"--model", "story_tiny"},
              {"--max-len", "64"},
              {"--batch-size", "4"},
              {"--micro-tokens", "128"},
              {"--validate-every", "6"},
              {"--lr", "1e-3"},
              {"--max-steps", std::to_string(steps)}};
  for (const auto& other : others) {
    std::erase_if(flags, [&](const auto& flag) { return flag.first == other.first; });
    flags.push_back(other);
  }
  std::vector<std::string> all{STORYLM_BIN_DIR "/train_stories"};
  for (const auto& [name, value] : flags) all.insert(all.end(), {name, value});
  return all;
}
inline Result train(const std::filesystem::path& run, int steps, const Flags& others = {},
                    const std::string& prefix = "") {
  std::string command = prefix + " exec";
  for (const std::string& argument : arguments(run, steps, others)) command += " '" + argument + "'";
  return shell(command);
}

/// A run of 26 steps that nothing disturbed, made once.
inline constexpr int all_steps = 26;
inline const std::filesystem::path& undisturbed() {
  static const TemporaryFolder folder;
  static const std::filesystem::path path = [] {
    const Result result = train(folder / "run", all_steps, {{"--threads", "2"}});
    CAPTURE(result.err);
    REQUIRE(result.code == 0);
    return folder / "run";
  }();
  return path;
}

inline std::ptrdiff_t lines_in(const std::filesystem::path& run) {
  return line_count(read_bytes(run / "metrics.jsonl"));
}
inline std::vector<boost::json::object> metrics(const std::filesystem::path& run) {
  std::istringstream file(read_bytes(run / "metrics.jsonl"));
  std::vector<boost::json::object> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(io::as_object(io::parse_json(line), "line"));
  return lines;
}
inline std::vector<std::string> metrics_without_times(const std::filesystem::path& run) {
  std::vector<std::string> lines;
  for (boost::json::object& line : metrics(run)) {
    for (const char* field : {"seconds", "tokens_per_second", "generation_tokens_per_second"}) line.erase(field);
    lines.push_back(io::json_text(line));
  }
  return lines;
}

/// Bytes of a number in a checkpoint, such as run.step.steps.
template <class T>
[[nodiscard]] T number_of(const std::filesystem::path& checkpoint, std::string_view name) {
  const io::SafetensorsFile file(checkpoint);
  const auto bytes = file.raw(name);
  T value{};
  REQUIRE(bytes.size() == sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}
[[nodiscard]] inline std::uint64_t step_of(const std::filesystem::path& checkpoint) {
  io::CheckpointReader(checkpoint).verify();
  return number_of<std::uint64_t>(checkpoint, "run.step.steps");
}

/// `arguments` with kill_at.cpp before the program, and variables for it.
inline std::vector<std::string> preloaded(const std::vector<std::string>& arguments,
                                          const std::vector<std::string>& variables) {
  const char* const asan = std::getenv("ASAN_OPTIONS");
  std::vector<std::string> all{"/usr/bin/env", "LD_PRELOAD=" STORYLM_BIN_DIR "/kill_at.so",
                               std::string("ASAN_OPTIONS=verify_asan_link_order=0:") + (asan != nullptr ? asan : "")};
  all.insert(all.end(), variables.begin(), variables.end());
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

/// True when two runs ended alike: every byte of both checkpoints, every line of the metrics but for the times.
inline bool same_end(const std::filesystem::path& a, const std::filesystem::path& b) {
  bool same = metrics_without_times(a) == metrics_without_times(b);
  CHECK(same);
  for (const char* name : {"checkpoint_last.safetensors", "checkpoint_best.safetensors"}) {
    const io::SafetensorsFile first(a / name);
    const io::SafetensorsFile second(b / name);
    for (const io::StoredTensor& tensor : first.tensors()) {
      const auto bytes = first.raw(tensor);
      const bool equal = second.find(tensor.name) != nullptr && std::ranges::equal(bytes, second.raw(tensor.name));
      CHECK_MESSAGE(equal, name, ": ", tensor.name);
      same &= equal;
    }
    const bool equal = read_bytes(a / name) == read_bytes(b / name);
    CHECK_MESSAGE(equal, name);
    same &= equal;
  }
  return same;
}

}  // namespace storylm::test
