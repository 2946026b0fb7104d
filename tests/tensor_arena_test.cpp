// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <storylm/tensor/arena.hpp>

namespace {
using namespace storylm;

TEST_CASE("sizes are rounded up to slots of 256 elements") {
  static_assert(arena_slot_elements == 256);
  static_assert(arena_padded(0) == 0);
  static_assert(arena_padded(1) == 256);
  static_assert(arena_padded(256) == 256);
  static_assert(arena_padded(257) == 512);
  CHECK(arena_padded(index_t{7'000'000'000}) == 7'000'000'000);  // a multiple of 256, and beyond 32 bits
}

TEST_CASE("a plan hands out slots one after another") {
  ArenaPlan plan;
  CHECK(plan.size() == 0);
  CHECK(plan.add(1) == 0);
  CHECK(plan.add(512) == 256);
  CHECK(plan.add(0) == 768);
  CHECK(plan.add(300) == 768);
  CHECK(plan.size() == 1280);
}

}  // namespace
