// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of file formats share: a folder of their own, files made byte by byte, texts of exceptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>
#include <unistd.h>

#include <storylm/core/error.hpp>

namespace storylm::test {

/// A new folder that disappears with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "storylm-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

[[nodiscard]] inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Changes one byte of a file where it lies.
inline void poke(const std::filesystem::path& path, std::size_t at, char byte) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

/// Eight bytes, little-endian.
[[nodiscard]] inline std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 0xFFU);
  return bytes;
}

/// A safetensors file of that header and those bytes of data.
[[nodiscard]] inline std::string with_length(std::string_view header, std::string_view data = "") {
  return little_endian(header.size()) + std::string(header) + std::string(data);
}

/// The message of the E that `action` throws; "" when it throws none. Other exceptions pass.
template <class E = FormatError, class F>
[[nodiscard]] std::string error_of(F&& action) {
  try {
    std::forward<F>(action)();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

/// True, and a failed check that shows both otherwise, when `text` contains `part`.
inline bool contains(std::string_view text, std::string_view part) {
  const bool found = !part.empty() && text.find(part) != std::string_view::npos;
  if (!found) MESSAGE("\"", std::string(text), "\" does not contain \"", std::string(part), "\"");
  return found;
}

}  // namespace storylm::test
