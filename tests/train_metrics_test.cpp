// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief metrics.jsonl: lines that any JSON parser reads back bit for bit, and a file that is cut back at resume.
#include <bit>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <storylm/core/random.hpp>
#include <storylm/io/json.hpp>
#include <storylm/train/metrics.hpp>

#include "io_support.hpp"
#include "optim_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::read_bytes;
using test::TemporaryFolder;
using train::MetricsFile;
using train::MetricsLine;

namespace {

boost::json::object parsed(const MetricsLine& line) {
  const boost::json::value value = io::parse_json(line.text());
  return io::as_object(value, "line");
}

/// The state of a file, as a checkpoint keeps it.
struct Lines {
  std::uint64_t value = 0;
};
Lines lines_in(const MetricsFile& file) {
  Lines lines;
  MetricsFile::visit_state(file, [&](std::string_view name, const std::uint64_t& value) {
    CHECK(name == "lines");
    lines.value = value;
  });
  return lines;
}
void set_lines(MetricsFile& file, Lines lines) {
  MetricsFile::visit_state(file, [&](std::string_view, std::uint64_t& value) { value = lines.value; });
}

MetricsLine line_of(int step) {
  MetricsLine line;
  line.add("step", step);
  return line;
}

}  // namespace

TEST_CASE("a line is one JSON object, fields in the order in which they were added") {
  MetricsLine line;
  CHECK(line.text() == "{}");
  line.add("step", std::int64_t{12}).add("loss", 2.5).add("text", "said \"no\"").add("done", true);
  CHECK(line.text() == R"({"step": 12, "loss": 2.5, "text": "said \"no\"", "done": true})");
}

TEST_CASE("integers of every size are written out") {
  const auto object = parsed(MetricsLine{}
                                 .add("least", std::numeric_limits<std::int64_t>::min())
                                 .add("most", std::numeric_limits<std::uint64_t>::max())
                                 .add("small", std::uint8_t{200})
                                 .add("no", false));
  CHECK(object.at("least").as_int64() == std::numeric_limits<std::int64_t>::min());
  CHECK(object.at("most").as_uint64() == std::numeric_limits<std::uint64_t>::max());
  CHECK(object.at("small").as_int64() == 200);
  CHECK(object.at("no").as_bool() == false);
}

TEST_CASE("numbers come back bit for bit") {
  RandomStream random(1, 0, 0);
  const auto check = [](double value) {
    CAPTURE(value);
    const auto object = parsed(MetricsLine{}.add("x", value));
    CHECK(std::bit_cast<std::uint64_t>(object.at("x").to_number<double>()) == std::bit_cast<std::uint64_t>(value));
  };
  for (const double value : {0.0, -0.0, 0.1, 1.0 / 3.0, 1e300, -1e-300, 5e-324, 1e22, 123456789012345680.0,
                             std::numeric_limits<double>::max(), std::numeric_limits<double>::min()})
    check(value);
  for (int i = 0; i < 2000; ++i) check(random.normal() * std::pow(10.0, static_cast<double>(random.below(40)) - 20.0));
}

TEST_CASE("what JSON has no word for becomes null") {
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()})
    CHECK(MetricsLine{}.add("loss", value).text() == R"({"loss": null})");
}

TEST_CASE("text comes back whatever it holds, and never breaks the line") {
  std::string text = "é “quoted” \\ / \x7f 😀";
  for (char c = 0; c < 0x20; ++c) text += c;
  MetricsLine line;
  line.add("sa\"m\nple", text);
  CHECK(line.text().find('\n') == std::string::npos);
  const auto object = parsed(line);
  REQUIRE(object.contains("sa\"m\nple"));
  CHECK(std::string(object.at("sa\"m\nple").as_string()) == text);
}

TEST_CASE("lines written after a checkpoint are cut off when the run goes on from it") {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  Lines at_checkpoint;
  {
    MetricsFile file(path);
    file.open();
    file.write(line_of(1));
    file.write(line_of(2));
    at_checkpoint = lines_in(file);
    file.write(line_of(3));
    CHECK(read_bytes(path) == "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n");
  }
  CHECK(at_checkpoint.value == 2);
  test::write_bytes(path, read_bytes(path) + "{\"step\": 4, \"lo");  // the power went
  MetricsFile file(path);
  set_lines(file, at_checkpoint);
  file.open();
  CHECK(read_bytes(path) == "{\"step\": 1}\n{\"step\": 2}\n");
  file.write(line_of(3));
  CHECK(read_bytes(path) == "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n");
  CHECK(lines_in(file).value == 3);
}

TEST_CASE("a new run begins with an empty file, even where one was left") {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  test::write_bytes(path, "{\"step\": 1}\n");
  MetricsFile file(path);
  file.open();
  CHECK(read_bytes(path).empty());
}

TEST_CASE("a file that has fewer lines than recorded, is missing or cannot be written is an error with its name") {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  const auto message = [](const std::filesystem::path& where, std::uint64_t lines) {
    return error_of<IoError>([&] {
      MetricsFile file(where);
      set_lines(file, {lines});
      file.open();
    });
  };
  CHECK(message(path, 2) == "[metrics] " + path.string() + ": has 0 lines, the checkpoint expects 2");
  CHECK(!std::filesystem::exists(path));
  test::write_bytes(path, "{\"step\": 1}\n");
  CHECK(message(path, 2) == "[metrics] " + path.string() + ": has 1 lines, the checkpoint expects 2");
  CHECK(read_bytes(path) == "{\"step\": 1}\n");
  CHECK(message(path, 1).empty());
  test::write_bytes(path, "{\"step\": 1}\n{\"step\": 2}");  // a line that has no end is none
  CHECK(contains(message(path, 2), "has 1 lines, the checkpoint expects 2"));
  CHECK(contains(message(folder / "absent" / "metrics.jsonl", 0), "metrics.jsonl: cannot be opened for writing"));
  MetricsFile unopened(path);
  CHECK(contains(error_of<WriteError>([&] { unopened.write(line_of(1)); }), "cannot be written"));
  CHECK(contains(error_of<WriteError>([&] { MetricsFile(folder / "nothing").sync(); }), "cannot be written"));
}

TEST_CASE("a full disk is an error, and the line that did not fit does not count") {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  MetricsFile file(path);
  file.open();
  file.write(line_of(1));
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const rlimit tight{.rlim_cur = 20, .rlim_max = old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const std::string message = error_of<WriteError>([&] { file.write(line_of(2)); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK(contains(message, path.string() + ": cannot be written"));
  CHECK(lines_in(file).value == 1);
  file.sync();
}
