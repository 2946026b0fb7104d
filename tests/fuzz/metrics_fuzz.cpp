// SPDX-License-Identifier: MIT
/// @file
/// @brief metrics.jsonl of a run that goes on: cut behind the recorded lines, or refused and left as it is; and lines
/// of any text stay one line.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <storylm/train/metrics.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

void run(std::string_view input) {
  if (input.empty()) return;
  const auto wanted = static_cast<std::uint64_t>(static_cast<unsigned char>(input[0]) % 8);
  input.remove_prefix(1);
  const std::filesystem::path path = folder().write("metrics.jsonl", input);
  const auto bytes = [&] {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  train::MetricsFile metrics(path);
  train::MetricsFile::visit_state(metrics, [&](std::string_view, std::uint64_t& lines) { lines = wanted; });
  const auto there = static_cast<std::uint64_t>(std::count(input.begin(), input.end(), '\n'));
  const std::string message = refusal<Error>([&] { metrics.open(); }, path.string());
  must(message.empty() == (wanted <= there), "lines were counted wrongly", message);
  const std::string left = bytes();
  must(input.starts_with(left), "bytes were changed");
  if (!message.empty()) return must(left == input, "a refused file was cut");
  must(static_cast<std::uint64_t>(std::count(left.begin(), left.end(), '\n')) == wanted,
       "another number of lines is left");
  must(left.empty() || left.back() == '\n', "half a line is left");
  metrics.write(train::MetricsLine().add("text", input).add("x", 0.1).add(input, true));
  const std::string written = bytes();
  must(written.starts_with(left) &&
           std::count(written.begin(), written.end(), '\n') == std::count(left.begin(), left.end(), '\n') + 1,
       "a line of text became several");
}

void seeds(Seeds& made) {
  made.add("\x02{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"st");
  made.add(std::string("\0", 1));
  made.add("\x01no end of line");
  made.words({"\n", "\r\n", "\"", "\\"});
}

}  // namespace storylm::fuzz
