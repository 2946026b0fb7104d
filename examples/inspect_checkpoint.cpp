// SPDX-License-Identifier: MIT
// Prints what is in a checkpoint, or in any safetensors file, and whether it is whole.
//
//   inspect_checkpoint run/checkpoint_last.safetensors
//
// Nothing of the file is changed, and no model is made: a file whose model this program could not compute is shown too.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/checkpoint.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/safetensors_file.hpp>

#include "program.hpp"

namespace {

using namespace storylm;

/// On one line, and not longer than a screen is wide.
std::string shortened(const std::string& text) {
  constexpr std::size_t most = 300;
  const bool plain = text.size() <= most &&
                     std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7F; });
  return plain ? text : io::quoted(text);  // which cuts and escapes
}

template <class T>
void print_numbers(std::span<const std::byte> bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    std::cout << (i == 0 ? "  " : ", ") << +value;
  }
}
/// The values of a tensor that has few, which are what a run's state mostly consists of.
void print_values(const io::SafetensorsFile& file, const io::StoredTensor& tensor) {
  if (tensor.size == 0 || tensor.size > 4) return;
  const auto count = static_cast<std::size_t>(tensor.size);
  const std::span<const std::byte> bytes = file.raw(tensor);
  if (tensor.dtype == io::file_dtype<double>) print_numbers<double>(bytes, count);
  if (tensor.dtype == io::file_dtype<float>) print_numbers<float>(bytes, count);
  if (tensor.dtype == io::file_dtype<std::int64_t>) print_numbers<std::int64_t>(bytes, count);
  if (tensor.dtype == io::file_dtype<std::uint64_t>) print_numbers<std::uint64_t>(bytes, count);
  if (tensor.dtype == io::file_dtype<std::int32_t>) print_numbers<std::int32_t>(bytes, count);
  if (tensor.dtype == io::file_dtype<std::uint8_t>) print_numbers<std::uint8_t>(bytes, count);
}

/// Number of the format, who wrote it, and what this program makes of it.
void print_format(const io::SafetensorsFile& file) {
  const auto value = [&](std::string_view key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  const std::string format = value("storylm.format");
  if (format.empty()) {
    std::cout << "format      safetensors, no checkpoint of storylm\n";
    return;
  }
  std::cout << "format      checkpoint of storylm, version " << shortened(format) << ", written by storylm "
            << shortened(value("storylm.version"));
  if (format != std::to_string(io::checkpoint_format)) {
    std::cout << "; this program knows version " << io::checkpoint_format << " only";
  }
  std::cout << '\n';
}

void print_metadata(const io::SafetensorsFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    if (key == detail::checksums_key || key == detail::header_checksum_key || key.starts_with("storylm.")) continue;
    std::cout << "  " << std::left << std::setw(22) << io::shown_name(key) << ' '
              << (key == "config" && value.size() < 10'000 ? value : shortened(value)) << '\n';
  }
}

class TensorTable {
 public:
  explicit TensorTable(const io::SafetensorsFile& file) : file_(file) {}

  void print(std::string_view title, const std::vector<const io::StoredTensor*>& tensors) {
    index_t elements = 0;
    std::size_t width = 4;
    for (const io::StoredTensor* tensor : tensors) {
      elements += tensor->size;
      width = std::max(width, io::shown_name(tensor->name).size());
    }
    std::cout << title << ": " << tensors.size() << " tensors, " << elements << " numbers\n";
    for (const io::StoredTensor* tensor : tensors) print(*tensor, width);
  }
  [[nodiscard]] const std::vector<std::string>& damaged() const { return damaged_; }

 private:
  void print(const io::StoredTensor& tensor, std::size_t width) {
    std::string state = "no checksum";
    if (file_.has_checksums()) {
      try {
        file_.verify(tensor);
        state = "ok";
      } catch (const FormatError&) {
        state = "DAMAGED";
        damaged_.push_back(tensor.name);
      }
    }
    std::cout << "  " << std::left << std::setw(static_cast<int>(width)) << io::shown_name(tensor.name) << "  "
              << std::setw(5) << tensor.dtype.name << ' ' << std::setw(16) << tensor.shape_text() << ' ' << std::right
              << std::setw(12) << tensor.bytes() << "  " << std::left << std::setw(state == "ok" ? 2 : 11) << state;
    print_values(file_, tensor);
    std::cout << '\n';
  }

  const io::SafetensorsFile& file_;
  std::vector<std::string> damaged_;
};

int inspect(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  std::cout.precision(17);
  std::cout << "file        " << path.string() << ", " << std::filesystem::file_size(path) << " bytes\n";
  print_format(file);
  if (const io::StoredTensor* steps = file.find("run.step.steps");
      steps != nullptr && steps->dtype == io::file_dtype<std::uint64_t> && steps->size == 1) {
    std::cout << "steps done";
    print_numbers<std::uint64_t>(file.raw(*steps), 1);
    std::cout << '\n';
  }
  std::cout << "metadata\n";
  print_metadata(file);

  const std::string run = std::string(io::run_prefix) + '.';
  std::vector<const io::StoredTensor*> model;
  std::vector<const io::StoredTensor*> state;
  for (const io::StoredTensor& tensor : file.tensors())
    (tensor.name.starts_with(run) ? state : model).push_back(&tensor);
  TensorTable table(file);
  table.print("model", model);
  if (!state.empty()) table.print("state of the run", state);
  if (!table.damaged().empty()) {
    const std::size_t others = table.damaged().size() - 1;
    detail::fail<FormatError>("inspect_checkpoint", path.string(), ": tensor ", io::shown_name(table.damaged().front()),
                              others > 0 ? " and " + std::to_string(others) + " more are" : std::string(" is"),
                              " damaged");
  }
  std::cout << (file.has_checksums() ? "every checksum is right\n" : "the file has no checksums\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Prints what is in a checkpoint, or in any safetensors file, and whether it is whole.",
               "inspect_checkpoint");
  std::filesystem::path path;
  app.add_option("FILE", path, "a checkpoint or another safetensors file")->required();
  return program::run(app, argc, argv, [&] { return inspect(path); });
}
