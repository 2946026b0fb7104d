// SPDX-License-Identifier: MIT
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/tensor/packed.hpp>

#include "allocation_counter.hpp"

namespace {
using namespace storylm;
using Ids = std::vector<token_t>;

template <class T>
std::vector<T> first(const T* values, index_t count) {
  return {values, values + count};
}

TEST_CASE("sequences lie one after another; an empty one takes no row") {
  Packed<Cpu> batch({.tokens = 10, .sequences = 4, .longest = 5}, Cpu{});
  batch.append(Ids{4, 5, 0}, Ids{5, 0, no_target}, 7);  // 0 is a token like any other
  batch.append({}, {}, 8);
  batch.append(Ids{1, 2}, {}, 3, 40);  // goes on at position 40, and asks for no loss
  const PackedView view = batch.view();
  CHECK(view.tokens == 5);
  CHECK(view.sequences == 3);
  CHECK(view.longest == 3);
  CHECK(first(view.ids, 5) == Ids{4, 5, 0, 1, 2});
  CHECK(first(view.targets, 5) == Ids{5, 0, no_target, no_target, no_target});
  CHECK(first(view.offsets, 4) == std::vector<std::int32_t>{0, 3, 3, 5});
  CHECK(first(view.positions, 5) == std::vector<std::int32_t>{0, 1, 2, 40, 41});
  CHECK(first(view.sequence, 5) == std::vector<std::int32_t>{0, 0, 0, 2, 2});
  CHECK(first(view.ordinals, 3) == std::vector<std::uint32_t>{7, 8, 3});
  CHECK(batch.target_count() == 2);
}

TEST_CASE("a revision tells batches and their changes apart, also of batches at one address") {
  std::uint64_t before = 0;
  for (int i = 0; i < 2; ++i) {
    Packed<Cpu> batch({.tokens = 4, .sequences = 2, .longest = 4}, Cpu{});
    CHECK((i == 0 || batch.revision() != before));
    const auto empty = batch.revision();
    batch.append(Ids{1}, {}, 0);
    CHECK(batch.revision() != empty);
    const Packed<Cpu> moved(std::move(batch));
    before = moved.revision();
    CHECK(first(moved.view().ids, 1) == Ids{1});
  }
}

TEST_CASE("clear empties it, and filling it again allocates nothing") {
  Packed<Cpu> batch({.tokens = 6, .sequences = 2, .longest = 4}, Cpu{});
  batch.append(Ids{1, 2, 3, 4}, Ids{2, 3, 4, 5}, 0);
  batch.append(Ids{6, 7}, {}, 1);
  const Ids ids{9, 8};
  const Ids targets{8, 9};
  const long before = allocations;
  batch.clear();
  CHECK(batch.tokens() == 0);
  CHECK(batch.sequences() == 0);
  CHECK(batch.longest() == 0);
  CHECK(batch.target_count() == 0);
  batch.append(ids, targets, 5);
  CHECK(allocations == before);
  CHECK(batch.view().offsets[0] == 0);
  CHECK(batch.view().offsets[1] == 2);
  CHECK(batch.view().ordinals[0] == 5);
  CHECK(batch.longest() == 2);
  CHECK(batch.target_count() == 2);
}

TEST_CASE("fits says what append takes") {
  Packed<Cpu> batch({.tokens = 5, .sequences = 2, .longest = 4}, Cpu{});
  CHECK(batch.fits(4));
  CHECK_FALSE(batch.fits(5));  // longer than the longest
  batch.append(Ids{1, 2, 3}, {}, 0);
  CHECK(batch.fits(2));
  CHECK_FALSE(batch.fits(3));  // tokens
  batch.append(Ids{1}, {}, 1);
  CHECK_FALSE(batch.fits(1));  // sequences
  CHECK_FALSE(batch.fits(0));
}

TEST_CASE("append says what does not fit, and changes nothing") {
  Packed<Cpu> batch({.tokens = 5, .sequences = 2, .longest = 4}, Cpu{});
  batch.append(Ids{1, 2, 3}, Ids{2, 3, 1}, 0);
  CHECK_THROWS_WITH_AS(batch.append(Ids{1, 2, 3}, {}, 1),
                       "[Packed::append] a sequence of 3 tokens does not fit: 3 of 5 tokens and 1 of 2 sequences are "
                       "taken, the longest may have 4",
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch.append(Ids{1, 2}, Ids{2}, 1), "[Packed::append] the sequence has 2 tokens and 1 targets",
                       ShapeError);
  CHECK(batch.tokens() == 3);
  CHECK(batch.sequences() == 1);
  CHECK(batch.target_count() == 3);
}

}  // namespace
