// SPDX-License-Identifier: MIT
// Runs the program as a user does: on a checkpoint, a plain safetensors file, a damaged one, and on what is neither.
// LINK: io
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/checkpoint.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/train/history.hpp>

#include "io_support.hpp"
#include "process_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

Result inspect(const std::vector<std::string>& flags) {
  const TemporaryFolder folder;
  std::vector<std::string> all{STORYLM_BIN_DIR "/inspect_checkpoint"};
  all.insert(all.end(), flags.begin(), flags.end());
  Process process(all, folder / "out", folder / "err");
  const int code = process.wait();
  return {code, read_bytes(folder / "out"), read_bytes(folder / "err")};
}

struct Counter {
  std::uint64_t steps = 0;
  static void visit_state(auto& self, auto&& f) { f("steps", self.steps); }
};

constexpr std::array<float, 6> weights{1.5F, -2.0F, 0.0F, 4.0F, 5.0F, 6.0F};

/// A checkpoint of one weight, a step counter and the losses of two steps.
void write_checkpoint(const std::filesystem::path& path) {
  train::History history;
  history.add_loss(2.5);
  history.add_loss(0.25);
  io::CheckpointWriter writer({.library_version = "1.2.3",
                               .config = R"({"d_model": 3})",
                               .more = {{"run.lr", "0.001"}, {"odd\nkey", "two\nlines"}}});
  writer.add_tensor<float>("head.weight", Shape{2, 3}, std::span(weights));
  writer.add("run.step", Counter{.steps = 42});
  writer.add("run.history", history);
  writer.save(path);
}
/// The line of a tensor, and no other.
std::string line_of(const std::string& text, std::string_view name) {
  const std::size_t at = text.find("  " + std::string(name) + ' ');
  REQUIRE(at != std::string::npos);
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace

TEST_CASE("a checkpoint: version, step, config, settings, tensors with their checksums, values of the state") {
  const TemporaryFolder folder;
  write_checkpoint(folder / "c");
  const Result result = inspect({(folder / "c").string()});
  CAPTURE(result.out);
  CHECK(result.code == 0);
  CHECK(result.err.empty());
  CHECK(contains(result.out, "checkpoint of storylm, version 1, written by storylm 1.2.3\n"));
  CHECK(contains(result.out, "steps done  42\n"));
  CHECK(contains(result.out, R"({"d_model": 3})"));
  CHECK(contains(line_of(result.out, "run.lr"), "0.001"));
  CHECK_FALSE(contains(result.out, "two\nlines"));
  CHECK(contains(result.out, "model: 1 tensors, 6 numbers\n"));
  const std::string weight = line_of(result.out, "head.weight");
  for (const char* const part : {"F32", "(2, 3)", " 24  ok"}) CHECK(contains(weight, part));
  CHECK(contains(result.out, "state of the run: 6 tensors, 5 numbers\n"));
  CHECK(contains(line_of(result.out, "run.history.losses"), "ok  2.5, 0.25"));
  CHECK(contains(line_of(result.out, "run.step.steps"), "ok  42"));
  CHECK(contains(line_of(result.out, "run.history.best"), "ok  inf"));
  CHECK(result.out.ends_with("every checksum is right\n"));
}

TEST_CASE("a damaged tensor is named, in the table and in the error; the others are shown") {
  const TemporaryFolder folder;
  write_checkpoint(folder / "c");
  std::size_t at = 0;
  {
    const io::SafetensorsFile file(folder / "c");
    at = file.at("head.weight").begin;
  }
  poke(folder / "c", at, '\x11');
  const Result result = inspect({(folder / "c").string()});
  CAPTURE(result.out);
  CHECK(result.code == 2);
  CHECK(result.err ==
        "inspect_checkpoint: [inspect_checkpoint] " + (folder / "c").string() + ": tensor head.weight is damaged\n");
  CHECK(contains(line_of(result.out, "head.weight"), "DAMAGED"));
  CHECK(contains(line_of(result.out, "run.step.steps"), "ok"));
  CHECK_FALSE(contains(result.out, "every checksum"));
}

TEST_CASE("a file of another program is shown; so is a checkpoint of a later version, and its version is said") {
  const TemporaryFolder folder;
  io::SafetensorsWriter plain({.metadata = {{"format", "pt"}}, .checksums = false});
  plain.add<float>("w", Shape{6}, std::span(weights));
  plain.save(folder / "plain");
  const Result shown = inspect({(folder / "plain").string()});
  CHECK(shown.code == 0);
  CHECK(contains(shown.out, "safetensors, no checkpoint of storylm\n"));
  CHECK(contains(line_of(shown.out, "w"), "no checksum"));
  CHECK(shown.out.ends_with("the file has no checksums\n"));

  io::SafetensorsWriter later({.metadata = {{"storylm.format", "7"}, {"storylm.version", "9.9"}}, .checksums = true});
  later.add<float>("w", Shape{6}, std::span(weights));
  later.save(folder / "later");
  const Result newer = inspect({(folder / "later").string()});
  CHECK(newer.code == 0);
  CHECK(contains(newer.out, "version 7, written by storylm 9.9; this program knows version 1 only\n"));
}

TEST_CASE("what is no such file, missing, or not asked for: one line and exit code 2") {
  const TemporaryFolder folder;
  write_bytes(folder / "text", "Once upon a time there was a file that was none of these.");
  write_checkpoint(folder / "cut");
  std::filesystem::resize_file(folder / "cut", std::filesystem::file_size(folder / "cut") - 1);
  for (const auto& [flags, expected] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{(folder / "text").string()}, "text: byte 0: the header's length is "},
           {{(folder / "cut").string()}, "cut: "},
           {{(folder / "missing").string()}, "No such file or directory"},
           {{}, "FILE is required"},
           {{"a", "b"}, "b"}}) {
    const Result result = inspect(flags);
    CAPTURE(result.err);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.starts_with("inspect_checkpoint: "));
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    CHECK(contains(result.err, expected));
  }
}
