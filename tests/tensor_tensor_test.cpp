// SPDX-License-Identifier: MIT
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/tensor/span.hpp>
#include <storylm/tensor/tensor.hpp>

#include "allocation_counter.hpp"

namespace {
using namespace storylm;

std::vector<float> counting(std::size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

TEST_CASE("a fresh tensor is zero, on a 64-byte boundary, and one allocation") {
  const Cpu cpu;
  const long before = allocations;
  const Tensor<float, Cpu> t({3, 5}, cpu);
  CHECK(allocations - before == 1);
  CHECK(t);
  CHECK(t.shape() == Shape{3, 5});
  CHECK(t.size() == 15);
  CHECK(t.bytes() == 60);
  CHECK(reinterpret_cast<std::uintptr_t>(t.data()) % 64 == 0);
  CHECK(t.to_host() == std::vector<float>(15));
}

TEST_CASE("values go to the device and back; a clone is another memory") {
  const Cpu cpu;
  auto t = Tensor<float, Cpu>::from_host({2, 3}, counting(6), cpu);
  CHECK(t.to_host() == counting(6));
  const auto copy = t.clone();
  t.data()[0] = 9.0F;
  CHECK(copy.to_host() == counting(6));
  CHECK(copy.shape() == t.shape());
  CHECK(copy.data() != t.data());
}

TEST_CASE("from_host says how many values the shape needs") {
  const Cpu cpu;
  using Ids = Tensor<std::int32_t, Cpu>;
  CHECK_THROWS_WITH_AS(static_cast<void>(Tensor<float, Cpu>::from_host({2, 3}, counting(5), cpu)),
                       "[Tensor::from_host] shape (2, 3) needs 6 values, got 5", ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(Ids::from_host({}, {}, cpu)),
                       "[Tensor::from_host] shape () needs 1 values, got 0", ShapeError);
}

TEST_CASE("moving leaves nothing behind and copies nothing") {
  const Cpu cpu;
  auto a = Tensor<float, Cpu>::from_host({6}, counting(6), cpu);
  const float* const memory = a.data();
  const long before = allocations;
  Tensor<float, Cpu> b = std::move(a);
  CHECK(b.data() == memory);
  CHECK_FALSE(a);  // NOLINT(bugprone-use-after-move): what a moved-from tensor is, is what is tested
  CHECK(a.shape() == Shape{});
  CHECK(a.size() == 0);
  CHECK(a.bytes() == 0);
  Tensor<float, Cpu> c({4}, cpu);
  c = std::move(b);
  CHECK(c.data() == memory);
  CHECK(allocations - before == 1);  // c's first memory, and no more
  CHECK(c.to_host() == counting(6));
}

TEST_CASE("no memory: size 0, to_host and clone are empty") {
  const Tensor<double, Cpu> none;
  CHECK_FALSE(none);
  CHECK(none.size() == 0);
  CHECK(none.bytes() == 0);
  CHECK(none.to_host().empty());
  CHECK_FALSE(none.clone());
}

TEST_CASE("an extent of zero is a tensor without elements") {
  const Cpu cpu;
  const Tensor<float, Cpu> empty({0, 4}, cpu);
  CHECK(empty.size() == 0);
  CHECK(empty.matrix().rows == 0);
  CHECK(empty.matrix().cols == 4);
  CHECK(empty.to_host().empty());
  CHECK(empty.clone().shape() == Shape{0, 4});
}

TEST_CASE("views: rows, slices and strides") {
  const Cpu cpu;
  auto t = Tensor<float, Cpu>::from_host({2, 3, 4}, counting(24), cpu);
  const MatrixView<float> m = t.matrix();
  CHECK(m.rows == 6);
  CHECK(m.cols == 4);
  CHECK(m.stride == 4);
  CHECK(m(5, 3) == 23.0F);
  CHECK(m.row(2) == t.data() + 8);
  CHECK(t.rows(2).rows == 2);
  CHECK(t.rows(2).cols == 4);

  const MatrixView<float> inner = m.slice_rows(1, 3).slice_cols(2, 2);  // [[6, 7], [10, 11], [14, 15]]
  CHECK(inner.rows == 3);
  CHECK(inner.cols == 2);
  CHECK(inner.stride == 4);
  CHECK(inner(0, 0) == 6.0F);
  CHECK(inner(2, 1) == 15.0F);
  inner(1, 0) = -1.0F;
  CHECK(t.data()[10] == -1.0F);

  const MatrixView<const float> readable = inner;
  CHECK(readable.data == inner.data);
  CHECK(readable.rows == 3);
  CHECK(readable.cols == 2);
  CHECK(readable.stride == 4);
  CHECK(readable);
  CHECK_FALSE(MatrixView<float>{});
}

TEST_CASE("for_each_host_chunk hands over host memory in one piece, and nothing for nothing") {
  const Cpu cpu;
  const auto t = Tensor<float, Cpu>::from_host({6}, counting(6), cpu);
  std::vector<float> seen;
  int calls = 0;
  const auto consume = [&](index_t first, std::span<const float> values) {
    ++calls;
    CHECK(first == 0);
    seen.assign(values.begin(), values.end());
  };
  for_each_host_chunk(t.data(), t.size(), cpu, consume);
  CHECK(calls == 1);
  CHECK(seen == counting(6));
  for_each_host_chunk(t.data(), 0, cpu, consume);
  CHECK(calls == 1);
}

}  // namespace
