// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Tensors into parameters: in pieces, transposed, unaligned, of every dtype; memory is given back.
#include <atomic>
#include <cstddef>
#include <fstream>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/io/model_parts.hpp>
#include <storylm/io/safetensors.hpp>
#include <storylm/nn/parameter.hpp>

#include "allocation_counter.hpp"
#include "io_support.hpp"

using namespace storylm;
using test::TemporaryFolder;

namespace {

/// A parameter with memory of its own.
template <class T>
struct Owned {
  explicit Owned(const Shape& shape) : p(shape), value({shape.size()}, Cpu{}) {
    p.bind(Cpu{}, value.data(), nullptr, nullptr);
  }
  nn::Parameter<T, Cpu> p;
  Tensor<T, Cpu> value;
};

/// load_part() with a buffer of no more than load_bytes(): the sanitizers see what is beyond.
template <class P>
void load(P& p, const io::FileTensor& part, const io::SafetensorsFile& file) {
  const io::StoredTensor& tensor = file.at(part.name);
  std::vector<std::byte> buffer(detail::load_bytes(p, part, tensor));
  const long before = allocations;
  detail::load_part(p, part, file, tensor, buffer);
  if (tensor.size < 4000) CHECK(allocations == before);  // more than that is for several threads
}

template <class T>
std::vector<T> random_values(index_t size) {
  RandomStream random(1, 2, 3);
  std::vector<T> values(static_cast<std::size_t>(size));
  for (T& value : values) value = io::converted<T>(static_cast<float>(random.normal()));
  return values;
}

/// (rows, cols) of Stored in a file becomes a parameter of T, as it is and transposed; `before` bytes come first.
template <class T, class Stored>
void check(index_t rows, index_t cols, index_t before = 0) {
  CAPTURE(io::file_dtype<Stored>.name);
  CAPTURE(rows);
  CAPTURE(cols);
  const TemporaryFolder folder;
  const auto values = random_values<Stored>(rows * cols);
  const std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Stored));
  const std::string end = std::to_string(static_cast<std::size_t>(before) + bytes.size());
  const std::string padding = std::to_string(before);
  test::write_bytes(folder / "x", test::with_length("{\"padding\":{\"dtype\":\"U8\",\"shape\":[" + padding +
                                                        "],\"data_offsets\":[0," + padding + "]},\"x\":{\"dtype\":\"" +
                                                        std::string(io::file_dtype<Stored>.name) + "\",\"shape\":[" +
                                                        std::to_string(rows) + "," + std::to_string(cols) +
                                                        "],\"data_offsets\":[" + padding + "," + end + "]}}",
                                                    std::string(static_cast<std::size_t>(before), 'x') + bytes));
  const io::SafetensorsFile file(folder / "x");
  Owned<T> plain({rows + 1, cols});  // the tensor is all rows but the first
  load(plain.p, {.name = "x", .shape = {rows, cols}, .first_row = 1, .rows = rows}, file);
  Owned<T> turned({cols, rows});
  load(turned.p, {.name = "x", .shape = {rows, cols}, .rows = cols, .transposed = true}, file);
  std::size_t wrong = 0;
  for (index_t r = 0; r < rows; ++r)
    for (index_t c = 0; c < cols; ++c) {
      const T expected = io::converted<T>(values[static_cast<std::size_t>(r * cols + c)]);
      wrong += plain.value.data()[(r + 1) * cols + c] != expected;
      wrong += turned.value.data()[c * rows + r] != expected;
    }
  CHECK(wrong == 0);
  for (index_t c = 0; c < cols; ++c) CHECK(plain.value.data()[c] == T{});
}

/// Bytes of files that are resident in this process.
std::size_t resident_of_files() {
  std::ifstream status("/proc/self/status");
  std::string word;
  std::size_t kilobytes = 0;
  while (status >> word)
    if (word == "RssFile:") status >> kilobytes;
  return kilobytes * 1024;
}

}  // namespace

TEST_CASE("every pair of float types, aligned and not, whole tiles and rests") {
  for (const index_t before : {0, 1}) {
    check<float, float>(37, 50, before);
    check<float, bf16>(37, 50, before);
    check<float, half>(16, 16, before);
    check<float, double>(3, 1, before);
    check<bf16, bf16>(37, 50, before);
    check<bf16, float>(37, 50, before);
    check<bf16, half>(37, 50, before);
    check<double, float>(37, 50, before);
  }
}

TEST_CASE("tensors of several pieces") {
  check<float, float>(1500, 1499);  // 9 MB
  check<bf16, bf16>(2100, 2101);
  check<float, bf16>(2100, 2101, 1);
  check<bf16, half>(2100, 2101);  // rounded at once
}

TEST_CASE("a file's pages are not resident once they are loaded") {
  const TemporaryFolder folder;
  const index_t size = index_t{8} << 20U;
  {
    const std::vector<bf16> values(static_cast<std::size_t>(size), bf16(1.0F));
    io::SafetensorsWriter writer;
    writer.add<bf16>("x", {size}, values);
    writer.save(folder / "x");
  }
  const io::SafetensorsFile file(folder / "x");
  const std::size_t bytes = file.at("x").bytes();  // 16 MB
  Owned<bf16> p({size});
  const std::size_t before = resident_of_files();
  file.verify(file.at("x"));
  std::size_t sum = 0;
  for (const std::byte byte : file.raw("x")) sum += std::to_integer<std::size_t>(byte);
  CHECK(sum > 0);
  CHECK(resident_of_files() > before + bytes / 2);  // reading makes pages resident
  load(p.p, {.name = "x", .shape = {size}, .rows = 1}, file);
  CHECK(resident_of_files() < before + bytes / 4);
  CHECK(p.value.data()[size - 1] == bf16(1.0F));
}

TEST_CASE("threads that there is no memory for are done without") {
  std::atomic<index_t> done = 0;
  out_of_memory = true;
  try {
    detail::in_threads(1000, 1, [&](index_t begin, index_t end) { done += end - begin; });
  } catch (const std::bad_alloc&) {
    done = -1;
  }
  out_of_memory = false;
  CHECK(done == 1000);
}

TEST_CASE("a number that the parameter's dtype has not is refused, an infinity is not") {
  const TemporaryFolder folder;
  const auto refusal = [&](auto parameter, auto value) {
    using Stored = decltype(value);
    std::vector<Stored> values(3000, Stored(1.0F));
    values[2017] = value;
    io::SafetensorsWriter writer;
    writer.add<Stored>("x", {3000}, values);
    writer.save(folder / "x");
    const io::SafetensorsFile file(folder / "x");
    const Owned<decltype(parameter)> owned({3000});
    return test::error_of([&] { detail::expect_range(owned.p, file, file.at("x")); });
  };
  CHECK(test::contains(refusal(half{}, 70000.0F), "tensor x has 70000 at element 2017, which is too large for F16"));
  CHECK(test::contains(refusal(half{}, bf16(-1e10F)), "at element 2017, which is too large for F16"));
  CHECK(test::contains(refusal(float{}, 1e300), "tensor x has 1e+300 at element 2017, which is too large for F32"));
  CHECK(refusal(half{}, 65504.0F).empty());
  CHECK(refusal(half{}, std::numeric_limits<float>::infinity()).empty());
  CHECK(refusal(half{}, half(1.0F)).empty());
  CHECK(refusal(bf16{}, 70000.0F).empty());
}
