// SPDX-License-Identifier: MIT
/// @file
/// @brief metrics.jsonl: one JSON object a line, cut back to the checkpoint's step when a run goes on.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <storylm/core/error.hpp>
#include <storylm/core/state.hpp>

namespace storylm::train {

/// One line: fields in the order in which they are added. Numbers are written so that reading gives the same bits; a
/// number that is not finite becomes null, for JSON has no word for it.
class MetricsLine {
 public:
  template <std::integral T>
  MetricsLine& add(std::string_view name, T value) {
    begin(name);
    if constexpr (std::same_as<T, bool>) {
      text_ += value ? "true" : "false";
    } else {
      text_ += std::to_string(value);
    }
    return *this;
  }
  MetricsLine& add(std::string_view name, double value) {
    begin(name);
    if (!std::isfinite(value)) {
      text_ += "null";
      return *this;
    }
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    text_.append(digits.data(), end);
    if (value == 0.0 && std::signbit(value)) text_ += ".0";  // parsers take -0 for an integer, which has no sign
    return *this;
  }
  /// @param value UTF-8
  MetricsLine& add(std::string_view name, std::string_view value) {
    begin(name);
    append_quoted(value);
    return *this;
  }
  /// The object, without the end of line.
  [[nodiscard]] std::string text() const { return '{' + text_ + '}'; }

 private:
  void begin(std::string_view name) {
    if (!text_.empty()) text_ += ", ";
    append_quoted(name);
    text_ += ": ";
  }
  void append_quoted(std::string_view value) {
    constexpr std::string_view hex = "0123456789abcdef";
    text_ += '"';
    for (const char c : value) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        text_ += '\\';
        text_ += c;
      } else if (byte < 0x20) {
        text_ += "\\u00";
        text_ += hex[byte >> 4U];
        text_ += hex[byte & 15U];
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
};

/// Appends lines to a file. Its state is the number of bytes that belong to finished steps.
class MetricsFile {
 public:
  explicit MetricsFile(std::filesystem::path path) : path_(std::move(path)) {}

  /// Opens the file at the recorded offset: what lies behind it came after the checkpoint and is cut off.
  /// @throws IoError when the file is shorter than that, or cannot be opened
  void open() {
    std::error_code error;
    const std::uintmax_t present = std::filesystem::exists(path_, error) ? std::filesystem::file_size(path_, error) : 0;
    expects<IoError>(!error, "metrics", path_.string(), ": ", error.message());
    expects<IoError>(present >= offset_, "metrics", path_.string(), ": has ", present,
                     " bytes, the checkpoint expects ", offset_);
    if (present > offset_) std::filesystem::resize_file(path_, offset_, error);
    expects<IoError>(!error, "metrics", path_.string(), ": cannot cut it back to ", offset_,
                     " bytes: ", error.message());
    file_.open(path_, std::ios::binary | std::ios::app);
    expects<IoError>(file_.is_open(), "metrics", path_.string(), ": cannot be opened for writing");
  }
  /// @throws IoError when the disk is full
  void write(const MetricsLine& line) {
    const std::string text = line.text() + '\n';
    file_ << text << std::flush;
    expects<IoError>(file_.good(), "metrics", path_.string(), ": cannot be written");
    offset_ += text.size();
  }

  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("offset", self.offset_);
  }

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::uint64_t offset_ = 0;
};
static_assert(Stateful<MetricsFile>);

}  // namespace storylm::train
