// SPDX-License-Identifier: MIT
/// @file
/// @brief What the fuzz targets share. A target is a source that defines run() and seeds(); libFuzzer calls run() with
/// bytes of its own making. Its program makes its corpus and its dictionary itself:
///
///     safetensors_fuzz --make-corpus=FOLDER     FOLDER/0, FOLDER/1, ... and FOLDER.dict
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

#include <storylm/core/error.hpp>

namespace storylm::fuzz {

/// Ends the process in a way that libFuzzer reports and keeps the input of.
[[noreturn]] inline void finding(std::string_view what, std::string_view detail = "") {
  std::cerr << "FINDING: " << what << ": " << detail << std::endl;
  std::abort();
}
/// A property that no input may break.
inline void must(bool ok, std::string_view what, std::string_view detail = "") {
  if (!ok) finding(what, detail);
}

/// A folder of this process's own, under TMPDIR, which should be in memory.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "storylm-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) finding("cannot make a temporary folder", name);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  /// The path of a file of these bytes.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    std::filesystem::path path = path_ / name;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) finding("cannot write", path.string());
    return path;
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

inline const Folder& folder() {
  static const Folder one;
  return one;
}

/// The message of what `read` throws; empty when it throws nothing. Only an E may come, FormatError most of the time,
/// and it must say what it is about: "[who] where: what", with `named` in it, in one line of bounded length.
template <class E = FormatError, class F>
std::string refusal(F&& read, std::string_view named = "") {
  try {
    read();
    return {};
  } catch (const std::exception& error) {
    const std::string message = error.what();
    must(dynamic_cast<const E*>(&error) != nullptr, "an exception of another kind",
         typeid(error).name() + (" " + message));
    must(message.starts_with('['), "a message without its origin", message);
    must(message.size() < 2000, "a message without end", message);
    must(message.find(named) != message.npos, "a message without the file's name", message);
    for (const char c : message)
      must(static_cast<unsigned char>(c) >= 0x20, "a message with control characters", message);
    return message;
  }
}

/// Where a checksum is wrong, the input is of no use to what comes behind it. Puts the right one where the message
/// says that it is another: "... is 0123456789abcdef, the file says ...fedcba9876543210...". False when it says no such
/// thing.
inline bool repair_checksum(std::string& bytes, std::string_view message) {
  constexpr std::string_view middle = ", the file says ";
  constexpr std::size_t digits = 16;
  const std::size_t at = message.rfind(middle);
  if (at == message.npos || at < digits) return false;
  const std::string_view right = message.substr(at - digits, digits);
  std::string_view wrong = message.substr(at + middle.size());
  if (wrong.starts_with('"')) wrong.remove_prefix(1);
  wrong = wrong.substr(0, digits);
  if (wrong.size() != digits) return false;
  const std::size_t place = bytes.find(wrong);
  if (place == bytes.npos || right.find_first_not_of("0123456789abcdef") != right.npos) return false;
  bytes.replace(place, digits, right);
  return true;
}

/// What libFuzzer begins with.
class Seeds {
 public:
  /// An input that a reader takes, or refuses late.
  void add(std::string bytes) { inputs.push_back(std::move(bytes)); }
  /// A file's bytes.
  void add_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    add({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
  }
  /// What inputs are made of.
  void words(std::initializer_list<std::string_view> more) {
    dictionary.insert(dictionary.end(), more.begin(), more.end());
  }

  std::vector<std::string> inputs;
  std::vector<std::string> dictionary;
};

/// What every JSON file has.
inline void json_words(Seeds& seeds) {
  using std::string_view_literals::operator""sv;
  seeds.words({"{",
               "}",
               "[",
               "]",
               ":",
               ",",
               "\"",
               "\\u0000",
               "\\ud800",
               "\\udc00",
               "true",
               "false",
               "null",
               "-1",
               "1e400",
               "9223372036854775807",
               "18446744073709551615",
               "NaN",
               "Infinity",
               "-0.0",
               "\xEF\xBB\xBF",
               "\0"sv});
}

/// To be defined by a target: an input.
void run(std::string_view input);
/// To be defined by a target: where to begin.
void seeds(Seeds& made);

inline void make_corpus(const std::filesystem::path& path) {
  Seeds made;
  seeds(made);
  std::filesystem::create_directories(path);
  for (std::size_t i = 0; i < made.inputs.size(); ++i) {
    std::ofstream file(path / std::to_string(i), std::ios::binary);
    file << made.inputs[i];
    file.close();
    if (!file) finding("cannot write", (path / std::to_string(i)).string());
  }
  std::ofstream words(path.string() + ".dict");
  for (const std::string& word : made.dictionary) {
    words << '"';
    for (const char c : word) {
      char code[5];
      std::snprintf(code, sizeof code, "\\x%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
      words << code;
    }
    words << "\"\n";
  }
}

}  // namespace storylm::fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view flag = "--make-corpus=";
  for (const char* argument : std::span(*argv, static_cast<std::size_t>(*argc))) {
    if (!std::string_view(argument).starts_with(flag)) continue;
    storylm::fuzz::make_corpus(std::string_view(argument).substr(flag.size()));
    std::exit(0);
  }
  return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  storylm::fuzz::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
