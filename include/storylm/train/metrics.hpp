// SPDX-License-Identifier: MIT
/// @file
/// @brief metrics.jsonl: one JSON object a line, cut back to the checkpoint's step when a run goes on.
#pragma once

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/core/state.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm::train {

/// One line: fields in the order in which they are added. Numbers are written so that reading gives the same bits; a
/// number that is not finite becomes null, for JSON has no word for it.
class MetricsLine {
 public:
  /// @param value an integer or a bool
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
  /// @param value the shortest digits that read back as the same; null unless finite
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

/// Appends lines to a file. Its state is the number of lines that belong to finished steps: that is the same however
/// long the steps took, so that the checkpoints of a run that was stopped are those of one that was not, to the byte.
class MetricsFile {
 public:
  /// The file is touched by open() only.
  explicit MetricsFile(std::filesystem::path path) : path_(std::move(path)) {}

  /// Opens the file behind the recorded lines: what follows them came after the checkpoint and is cut off.
  /// @throws IoError when there are fewer, WriteError when the file cannot be opened or cut
  void open() {
    std::error_code error;
    const std::uint64_t keep = end_of_lines();
    if (std::filesystem::exists(path_, error)) std::filesystem::resize_file(path_, keep, error);
    expects<WriteError>(!error, "metrics", path_.string(), ": cannot cut it back to ", lines_,
                        " lines: ", error.message());
    file_.open(path_, std::ios::binary | std::ios::app);
    expects<WriteError>(file_.is_open(), "metrics", path_.string(), ": cannot be opened for writing");
  }
  /// @throws WriteError when the disk is full
  void write(const MetricsLine& line) {
    file_ << line.text() + '\n' << std::flush;
    expects<WriteError>(file_.good(), "metrics", path_.string(), ": cannot be written");
    ++lines_;
  }
  /// Waits until all lines are on the disk: before a checkpoint that counts on them. @throws WriteError
  void sync() const {
    const storylm::detail::FileDescriptor file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    const bool synced = file.get() >= 0 && (::fsync(file.get()) == 0 || errno == EINVAL);  // EINVAL: a pipe
    storylm::detail::expects_system<WriteError>(synced, "metrics", path_.string(), ": cannot be written");
  }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("lines", self.lines_);
  }

 private:
  /// Where the recorded lines end, in bytes.
  [[nodiscard]] std::uint64_t end_of_lines() const {
    if (lines_ == 0) return 0;
    std::ifstream file(path_, std::ios::binary);
    std::uint64_t found = 0;
    std::uint64_t bytes = 0;
    for (std::string line; found < lines_ && std::getline(file, line) && !file.eof(); ++found) bytes += line.size() + 1;
    expects<IoError>(found == lines_, "metrics", path_.string(), ": has ", found, " lines, the checkpoint expects ",
                     lines_);
    return bytes;
  }

  std::filesystem::path path_;
  std::ofstream file_;
  std::uint64_t lines_ = 0;
};
static_assert(Stateful<MetricsFile>);

}  // namespace storylm::train
