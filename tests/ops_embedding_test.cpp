// SPDX-License-Identifier: MIT
/// @file
/// @brief embedding against its formula; its gradient is a sum in token order, bit for bit.
#include <array>
#include <utility>

#include <doctest/doctest.h>

#include <storylm/ops/embedding.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

constexpr index_t vocab = 11;
constexpr double scale = 2.5;

}  // namespace

TEST_CASE_TEMPLATE("embedding is its formula at every width", T, float, double, bf16, half) {
  const Cpu device;
  RandomStream random(1);
  for (const DropoutSpec& dropout : dropouts()) {
    for (const bool with_positions : {false, true}) {
      for (const index_t width : widths) {
        for (const index_t tokens : {0, 1, 13}) {
          CAPTURE(width);
          const auto batch = make_batch(tokens, vocab, random, device);
          const Grid<T> table(vocab, width, random);
          const Grid<T> positions(tokens + 5, width, random);
          Grid<T> y(tokens, width);
          ops::embedding(device, y.view(), table.view(), with_positions ? positions.view() : MatrixView<const T>{},
                         scale, dropout, batch.view());
          Grid<double> expected(tokens, width);
          for (index_t t = 0; t < tokens; ++t) {
            for (index_t c = 0; c < width; ++c) {
              expected.at(t, c) = to_double(table.at(batch.view().ids[t], c)) * scale;
              if (with_positions) expected.at(t, c) += to_double(positions.at(batch.view().positions[t], c));
              expected.at(t, c) *= dropout_factor(dropout, batch.view(), t, c);
            }
          }
          CHECK(difference(y, expected) < tolerance<T>);
          CHECK(y.gaps_untouched());
        }
      }
    }
  }
}

TEST_CASE("embedding_backward is the derivative") {
  const Cpu device;
  RandomStream random(2);
  for (const DropoutSpec& dropout : dropouts()) {
    for (const index_t width : {1, 33, 270}) {
      CAPTURE(width);
      const auto batch = make_batch(13, vocab, random, device);
      Grid<double> table(vocab, width, random);
      Grid<double> positions(9, width, random);
      Grid<double> dtable(vocab, width, random, 0.0);
      Grid<double> dpositions(9, width, random, 0.0);
      const Grid<double> dy(13, width, random);
      Grid<double> y(13, width);
      const auto loss = [&] {
        ops::embedding(device, y.view(), table.view(), positions.view(), scale, dropout, batch.view());
        return weighted_sum(dy, y);
      };
      ops::embedding_backward(device, dtable.view(), dpositions.view(), dy.view(), scale, dropout, batch.view());
      check_gradient(table, dtable, loss);
      check_gradient(positions, dpositions, loss);
      CHECK(dtable.gaps_untouched());
      CHECK(dpositions.gaps_untouched());
    }
  }
}

TEST_CASE_TEMPLATE("embedding_backward adds in token order, whatever the number of threads", T, float, double, bf16,
                   half) {
  using A = accumulator_t<T>;
  constexpr index_t tokens = 500;
  RandomStream random(3);
  const auto batch = make_batch(tokens, vocab, random, Cpu());
  for (const DropoutSpec& dropout : dropouts()) {
    for (const index_t width : {7, 300}) {
      const Grid<A> start(vocab, width, random);
      const Grid<T> dy(tokens, width, random);
      Grid<A> expected = start;
      for (index_t t = 0; t < tokens; ++t) {
        for (index_t c = 0; c < width; ++c) {  // 2 is a factor without rounding: the order is all that matters
          expected.at(batch.view().ids[t], c) +=
              static_cast<A>(dy.at(t, c)) * static_cast<A>(dropout_factor(dropout, batch.view(), t, c)) * A{2};
        }
      }
      std::array<std::vector<A>, 3> bits;
      for (std::size_t i = 0; i < 3; ++i) {
        Grid<A> dtable = start;
        ops::embedding_backward(Cpu({.threads = static_cast<int>(i) + 1}), dtable.view(), {}, dy.view(), 2.0, dropout,
                                batch.view());
        CHECK(difference(dtable, expected) < 0.5 * tolerance<A>);
        if (!dropout.active()) CHECK(same_bits(dtable, expected));
        bits[i] = dtable.flat();
      }
      CHECK(same_bits(bits[1], bits[0]));
      CHECK(same_bits(bits[2], bits[0]));
    }
  }
}

TEST_CASE("embedding allocates nothing in a second call, and zero tokens change nothing") {
  const Cpu device({.threads = 2});
  RandomStream random(4);
  const DropoutSpec dropout = dropouts()[1];
  const auto batch = make_batch(50, vocab, random, device);
  const Grid<float> table(vocab, 64, random);
  Grid<float> y(50, 64);
  Grid<float> dtable(vocab, 64, random);
  Grid<float> dpositions(50, 64, random);
  CHECK(second_call_allocations([&] {
          ops::embedding(device, y.view(), table.view(), {}, 1.0, dropout, batch.view());
          ops::embedding_backward(device, dtable.view(), dpositions.view(), y.view(), 1.0, dropout, batch.view());
        }) == 0);
  const auto before = dtable;
  const auto empty = make_batch(0, vocab, random, device);
  ops::embedding_backward(device, dtable.view(), {}, Grid<float>(0, 64).view(), 1.0, dropout, empty.view());
  CHECK(same_bits(dtable, before));
}

TEST_CASE("embedding says which id, position or shape is wrong") {
  const Cpu device;
  RandomStream random(5);
  Packed<Cpu> batch({3, 1, 3}, device);
  batch.append(std::array<token_t, 3>{1, 11, 0}, {}, 0);
  const Grid<float> table(vocab, 8, random);
  Grid<float> y(3, 8);
  Grid<float> dtable(12, 8, random);
  CHECK(error_of([&] { ops::embedding(device, y.view(), table.view(), {}, 1.0, {}, batch.view()); }) ==
        "[embedding] id 1 is 11, expected less than 11 and not negative");
  CHECK(error_of([&] {
          ops::embedding(device, y.view(), dtable.view(), Grid<float>(2, 8).view(), 1.0, {}, batch.view());
        }) == "[embedding] the longest sequence has 3 tokens, positions are for 2");
  CHECK(error_of([&] { ops::embedding(device, Grid<float>(2, 8).view(), table.view(), {}, 1.0, {}, batch.view()); }) ==
        "[embedding] y is (2, 8), expected (3, 8)");
  batch.clear();
  batch.append(std::array<token_t, 3>{1, 2, 0}, {}, 0, 5);
  CHECK(error_of([&] {
          ops::embedding_backward(device, dtable.view(), Grid<float>(7, 8).view(), y.view(), 1.0, {}, batch.view());
        }) == "[embedding_backward] position 2 is 7, expected less than 7 and not negative");
}
