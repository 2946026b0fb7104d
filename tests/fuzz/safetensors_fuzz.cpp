// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief safetensors files: what opens is read to its last byte, as every type.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/safetensors.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

template <class T>
void read_as(const io::SafetensorsFile& file, const io::StoredTensor& tensor, const Shape& shape) {
  index_t elements = 0;
  const std::string message = refusal(
      [&] {
        file.read_chunks<T>(tensor.name, shape, [&](index_t first, std::span<const T> values) {
          must(first == elements, "a chunk out of order");
          elements += static_cast<index_t>(values.size());
        });
      },
      file.path());
  must(!message.empty() || elements == tensor.size, "elements are missing");
}

/// Opens the file and reads all of it; what the first refusal says.
std::string read_all(const std::string& path) {
  std::string first;
  std::string message = refusal(
      [&] {
        const io::SafetensorsFile file(path);
        std::uint64_t bytes = 0;
        for (const io::StoredTensor& tensor : file.tensors()) {
          bytes += file.raw(tensor).size();
          must(file.find(tensor.name) == &tensor, "a tensor is not found by its name");
          if (first.empty()) first = refusal([&] { file.verify(tensor); }, path);
          if (tensor.shape.size() > static_cast<std::size_t>(Shape::max_rank)) continue;
          Shape shape;
          for (const index_t extent : tensor.shape) shape.append(extent);
          must(tensor.has_shape(shape), "a tensor has not its own shape");
          read_as<float>(file, tensor, shape);
          read_as<bf16>(file, tensor, shape);
          read_as<std::int64_t>(file, tensor, shape);
          file.prefetch(tensor, 1, 7);
          file.release(tensor, 0, tensor.bytes());
        }
        must(bytes <= std::filesystem::file_size(path), "tensors overlap");
      },
      path);
  return message.empty() ? first : message;
}

}  // namespace

void run(std::string_view input) {
  std::string bytes(input);
  for (int attempt = 0; attempt < 4; ++attempt) {
    const std::string message = read_all(folder().write("x.safetensors", bytes).string());
    if (!repair_checksum(bytes, message)) return;
  }
}

void seeds(Seeds& made) {
  const std::vector<float> floats{1.0F, -2.5F, 3e38F, 0.0F, 1e-40F, 7.0F};
  const std::vector<std::uint8_t> bytes{1, 2, 3, 4, 5};
  const std::vector<std::int64_t> integers{-1, 1};
  const std::vector<bf16> brain{bf16(1.0F), bf16(-3.0F)};
  for (const bool checksums : {false, true}) {
    io::SafetensorsWriter writer({.metadata = {{"format", "pt"}, {"config", "{}"}}, .checksums = checksums});
    writer.add<float>("a.weight", {2, 3}, floats);
    writer.add<std::uint8_t>("b", {5}, bytes);
    writer.add<std::int64_t>("c", {2}, integers);
    writer.add<bf16>("d", {1, 2, 1}, brain);
    writer.add<float>("scalar", {}, std::span(floats).first(1));
    writer.add<float>("none", {0, 4}, {});
    writer.save(folder().path() / "seed");
    made.add_file(folder().path() / "seed");
  }
  io::SafetensorsWriter().save(folder().path() / "seed");
  made.add_file(folder().path() / "seed");
  // The length of 10 GB, an overlap, a product that overflows, more depth than there is.
  const auto file = [](std::uint64_t length, std::string_view text) {
    std::string all(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) all[i] = static_cast<char>(length >> (8 * i) & 0xFFU);
    return all.append(text);
  };
  made.add(file(10'000'000'000U, "{}"));
  const std::string overlap = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],)"
                              R"("data_offsets":[1,3]}})";
  made.add(file(overlap.size(), overlap + "abc"));
  const std::string product = R"({"../a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}})";
  made.add(file(product.size(), product + "abcd"));
  made.add(file(200, std::string(200, '[')));
  json_words(made);
  made.words({"\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "storylm.checksums",
              "storylm.header_checksum", "F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "[0,0]"});
}

}  // namespace storylm::fuzz
