// SPDX-License-Identifier: MIT
// Embedding on CUDA: forward, and its gradient, whose sums have an order that nothing but the ids decides.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <storylm/ops/embedding.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using test::cuda_device;
using test::TwinBatch;
using test::TwinState;

namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr index_t gap = 3;  // columns between rows, where a stride is wanted

/// Ids, positions and sequences of the tail become what no kernel may use.
void poison_tail(const TwinBatch& batch) {
  const index_t tail = batch.rows() - batch.tokens();
  std::vector<std::int32_t> garbage(static_cast<std::size_t>(tail));
  for (std::size_t i = 0; i < garbage.size(); ++i) garbage[i] = i % 2 == 0 ? -123456789 : 1 << 30;
  for (const std::int32_t* values : {batch.device().ids, batch.device().positions, batch.device().sequence}) {
    cuda_device().copy_from_host(const_cast<std::int32_t*>(values) + batch.tokens(), garbage.data(),
                                 garbage.size() * sizeof(std::int32_t));
  }
}

/// The rows with NaN behind each.
std::vector<double> spread(const std::vector<double>& values, index_t cols, index_t stride) {
  const auto rows = static_cast<index_t>(values.size()) / cols;
  std::vector<double> all(static_cast<std::size_t>(rows * stride), no_number);
  for (index_t r = 0; r < rows; ++r) std::copy_n(values.begin() + r * cols, cols, all.begin() + r * stride);
  return all;
}
/// The rows without it; it must still be there.
std::vector<double> gather(const std::vector<double>& all, index_t cols, index_t stride) {
  std::vector<double> values;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (static_cast<index_t>(i) % stride < cols) {
      values.push_back(all[i]);
    } else if (!std::isnan(all[i])) {
      FAIL("written between rows: element " << i);
    }
  }
  return values;
}

struct Options {
  std::vector<index_t> lengths;
  index_t vocab = 11;
  index_t width = 24;
  index_t tail = 5;
  double dropout = 0.0;
  bool positions = true;
  bool strided = false;
};

template <class T>
void compare_forward(const Options& o) {
  CAPTURE(o.width);
  CAPTURE(o.vocab);
  CAPTURE(o.lengths.size());
  CAPTURE(o.dropout);
  const TwinBatch batch(o.lengths, o.vocab, o.tail);
  poison_tail(batch);
  TwinState state;
  const index_t stride = o.width + (o.strided ? gap : 0);
  const auto table = test::normal_values<T>(o.vocab * o.width, 1);
  const index_t max_len = std::max<index_t>(batch.host().longest, 1) + 2;
  const auto positions = test::normal_values<T>(max_len * o.width, 2);
  const auto table_there = test::to_cuda<T>(spread(table, o.width, stride), {o.vocab, stride});
  const auto positions_there = test::to_cuda<T>(spread(positions, o.width, stride), {max_len, stride});
  auto y = test::poisoned<T>({batch.rows(), stride});
  DropoutSpec dropout{.probability = o.dropout, .seed = 7, .site = 2, .state = state.device()};
  ops::embedding(
      cuda_device(), MatrixView<T>(y.data(), batch.rows(), o.width, stride),
      MatrixView<const T>(table_there.data(), o.vocab, o.width, stride),
      o.positions ? MatrixView<const T>(positions_there.data(), max_len, o.width, stride) : MatrixView<const T>{}, 1.5,
      dropout, batch.device());
  auto expected =
      test::to_cpu(std::vector<double>(static_cast<std::size_t>(batch.tokens() * o.width)), {batch.tokens(), o.width});
  const auto table_here = test::to_cpu(table, {o.vocab, o.width});
  const auto positions_here = test::to_cpu(positions, {max_len, o.width});
  dropout.state = state.host();
  ops::embedding(Cpu{}, expected.matrix(), table_here.matrix(),
                 o.positions ? positions_here.matrix() : MatrixView<const double>{}, 1.5, dropout, batch.host());
  const auto values = gather(test::to_doubles(y), o.width, stride);
  const index_t real = batch.tokens() * o.width;
  test::check_close<T>("y", test::without_tail(values, real), expected.to_host());
  CHECK(std::all_of(values.begin() + real, values.end(), [](double v) { return v == 0.0; }));  // NaN is not 0
}

/// Gradients on the GPU, and in double on the CPU.
struct Gradients {
  std::vector<double> table, positions;
  std::vector<double> expected_table, expected_positions;
};

template <class T>
Gradients run_backward(const Options& o, const PackedView& host, const PackedView& device,
                       const std::vector<double>& dy, double start = 1.0) {
  TwinState state;
  const index_t stride = o.width + (o.strided ? gap : 0);
  const index_t max_len = std::max<index_t>(host.longest, 1) + 2;
  const auto dtable = test::normal_values<float>(o.vocab * o.width, 3, start);
  const auto dpositions = test::normal_values<float>(max_len * o.width, 4, start);
  // Nothing of the tail's rows may get into a sum.
  const auto dy_there =
      test::to_cuda<T>(spread(test::with_tail(dy, (device.tokens - host.tokens) * o.width, no_number), o.width, stride),
                       {device.tokens, stride});
  auto dtable_there = test::to_cuda<float>(spread(dtable, o.width, stride), {o.vocab, stride});
  auto dpositions_there = test::to_cuda<float>(spread(dpositions, o.width, stride), {max_len, stride});
  DropoutSpec dropout{.probability = o.dropout, .seed = 7, .site = 2, .state = state.device()};
  ops::embedding_backward(
      cuda_device(), MatrixView<float>(dtable_there.data(), o.vocab, o.width, stride),
      o.positions ? MatrixView<float>(dpositions_there.data(), max_len, o.width, stride) : MatrixView<float>{},
      MatrixView<const T>(dy_there.data(), device.tokens, o.width, stride), 1.5, dropout, device);
  auto table_here = test::to_cpu(dtable, {o.vocab, o.width});
  auto positions_here = test::to_cpu(dpositions, {max_len, o.width});
  const auto dy_here = test::to_cpu(dy, {host.tokens, o.width});
  dropout.state = state.host();
  ops::embedding_backward(Cpu{}, table_here.matrix(), o.positions ? positions_here.matrix() : MatrixView<double>{},
                          dy_here.matrix(), 1.5, dropout, host);
  return {gather(test::to_doubles(dtable_there), o.width, stride),
          gather(test::to_doubles(dpositions_there), o.width, stride), table_here.to_host(), positions_here.to_host()};
}

template <class T>
void compare_backward(const Options& o) {
  CAPTURE(o.width);
  CAPTURE(o.vocab);
  CAPTURE(o.lengths.size());
  CAPTURE(o.dropout);
  const TwinBatch batch(o.lengths, o.vocab, o.tail);
  poison_tail(batch);
  const auto dy = test::normal_values<T>(batch.tokens() * o.width, 5);
  const auto rounded = run_backward<T>(o, batch.host(), batch.device(), dy);
  CHECK(test::relative_difference(rounded.table, rounded.expected_table) <= 2e-6);
  CHECK(test::relative_difference(rounded.positions, rounded.expected_positions) <= 2e-6);
  if (o.dropout != 0.0) return;
  // Small integers are added without rounding, in any order: every token must be there, once.
  std::vector<double> integers(dy.size());
  for (std::size_t i = 0; i < dy.size(); ++i) integers[i] = std::floor(4.0 * std::clamp(dy[i], -2.0, 2.0));
  const auto exact = run_backward<T>(o, batch.host(), batch.device(), integers, 0.0);
  CHECK(exact.table == exact.expected_table);
  CHECK(exact.positions == exact.expected_positions);
}

}  // namespace

TEST_CASE_TEMPLATE("embedding is the CPU's, and zero in rows of no sequence", T, STORYLM_CUDA_DTYPES) {
  for (const double dropout : {0.0, 0.1}) {
    for (const index_t width : {7, 24, 33, 520}) {
      for (const bool positions : {false, true}) {
        compare_forward<T>({.lengths = {13, 0, 20, 1}, .width = width, .dropout = dropout, .positions = positions});
      }
      compare_forward<T>({.lengths = {5}, .width = width, .dropout = dropout, .strided = true});
    }
    compare_forward<T>({.lengths = {257}, .vocab = 1000, .width = 8, .dropout = dropout});
    compare_forward<T>({.lengths = {3}, .vocab = 5120, .width = 2056, .dropout = dropout});
  }
  compare_forward<T>({.lengths = {}, .tail = 4});
  compare_forward<T>({.lengths = {}, .tail = 0});
  compare_forward<T>({.lengths = {0, 0}, .tail = 1});
}

TEST_CASE_TEMPLATE("the gradient is the CPU's at edge sizes", T, STORYLM_CUDA_DTYPES) {
  for (const double dropout : {0.0, 0.1}) {
    for (const index_t width : {7, 24, 33, 520}) {
      compare_backward<T>({.lengths = {13, 0, 20, 1}, .vocab = 7, .width = width, .dropout = dropout});
    }
    compare_backward<T>({.lengths = {5, 3}, .width = 20, .dropout = dropout, .positions = false, .strided = true});
    compare_backward<T>({.lengths = {2, 70}, .vocab = 3, .width = 2056, .dropout = dropout});
  }
  for (const index_t length : {1, 31, 33, 63, 64, 65, 257}) {
    compare_backward<T>({.lengths = {length}, .vocab = 31, .width = 8, .tail = length % 2});
  }
  compare_backward<T>({.lengths = {40}, .vocab = 5120, .width = 8});
  compare_backward<T>({.lengths = {}, .tail = 4});
  compare_backward<T>({.lengths = {}, .tail = 0});
}

// More than one chunk of the sort, and rows whose tokens fill many tiles and begin and end within them.
TEST_CASE_TEMPLATE("the gradient is the CPU's where ids occur often", T, STORYLM_CUDA_DTYPES) {
  compare_backward<T>({.lengths = {300}, .vocab = 1, .width = 8});
  compare_backward<T>({.lengths = {257, 400, 33}, .vocab = 1, .width = 8, .dropout = 0.1});
  compare_backward<T>({.lengths = {257, 300, 43}, .vocab = 2, .width = 33});
  compare_backward<T>({.lengths = {600, 513}, .vocab = 7, .width = 16, .dropout = 0.1});
  compare_backward<T>({.lengths = {100, 100, 100, 100, 100, 100}, .vocab = 1000, .width = 16});
}

TEST_CASE("rows that end where tiles end, after a call that left other sums behind") {
  const Options o{.lengths = {641}, .vocab = 5, .width = 24, .positions = false};
  std::vector<token_t> ids;
  for (const auto& [id, count] : std::vector<std::pair<token_t, int>>{{3, 128}, {0, 64}, {4, 1}, {1, 191}, {2, 257}}) {
    ids.insert(ids.end(), static_cast<std::size_t>(count), id);
  }
  const Capacity capacity{.tokens = 641, .sequences = 1, .longest = 641};
  const auto run = [&](const std::vector<token_t>& tokens, const std::vector<double>& dy) {
    Packed<Cpu> host(capacity, Cpu{});
    host.append(tokens, {}, 0);
    Packed<Cuda> device(capacity, cuda_device());
    device.assign(host);
    return run_backward<float>(o, host.view(), device.view(), dy, 0.0);
  };
  static_cast<void>(run(std::vector<token_t>(641, 2), std::vector<double>(641 * 24, no_number)));
  std::vector<double> dy(641 * 24);
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<double>(i % 17) - 8.0;
  const auto result = run(ids, dy);
  CHECK(result.table == result.expected_table);
}

TEST_CASE("more rows or chunks than the scans take in one round") {
  compare_backward<float>({.lengths = {200, 56}, .vocab = 2500, .width = 8});
  compare_backward<float>({.lengths = {4400}, .vocab = 3, .width = 8});
}

TEST_CASE_TEMPLATE("the gradient has the same bits in any schedule and with any tail", T, STORYLM_CUDA_DTYPES) {
  Options o{.lengths = {300, 65, 211}, .vocab = 5, .width = 24, .dropout = 0.1};
  const TwinBatch batch(o.lengths, o.vocab, 0);
  const auto dy = test::normal_values<T>(batch.tokens() * o.width, 6);
  const auto first = run_backward<T>(o, batch.host(), batch.device(), dy);
  const TwinBatch longer(o.lengths, o.vocab, 700);
  poison_tail(longer);
  test::for_each_schedule([&](unsigned) {
    const auto again = run_backward<T>(o, longer.host(), longer.device(), dy);
    CHECK(again.table == first.table);
    CHECK(again.positions == first.positions);
  });
}

TEST_CASE("a second gradient needs no more memory") {
  const Options o{.lengths = {300, 65}, .vocab = 5, .width = 24};
  const TwinBatch batch(o.lengths, o.vocab);
  const auto dy = test::to_cuda<float>(std::vector<double>(static_cast<std::size_t>(batch.rows() * o.width), 1.0),
                                       {batch.rows(), o.width});
  auto dtable =
      test::to_cuda<float>(std::vector<double>(static_cast<std::size_t>(o.vocab * o.width)), {o.vocab, o.width});
  const auto backward = [&] {
    ops::embedding_backward(cuda_device(), dtable.matrix(), MatrixView<float>{}, dy.matrix(), 1.0, {}, batch.device());
  };
  backward();
  const auto before = cuda_device().allocations();
  backward();
  CHECK(cuda_device().allocations() == before);
}
