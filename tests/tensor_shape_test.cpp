// SPDX-License-Identifier: MIT
#include <sstream>

#include <doctest/doctest.h>

#include <storylm/tensor/shape.hpp>

namespace {
using namespace storylm;

std::string text(const Shape& shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

TEST_CASE("rank, size and the view as a matrix, for every rank") {
  struct {
    Shape shape;
    int rank;
    index_t size, rows, cols;
    const char* text;
  } const cases[] = {
      {{}, 0, 1, 1, 1, "()"},
      {{7}, 1, 7, 1, 7, "(7)"},
      {{3, 4}, 2, 12, 3, 4, "(3, 4)"},
      {{2, 3, 4}, 3, 24, 6, 4, "(2, 3, 4)"},
      {{5, 2, 3, 4}, 4, 120, 30, 4, "(5, 2, 3, 4)"},
      {{0, 4}, 2, 0, 0, 4, "(0, 4)"},
      {{4, 0}, 2, 0, 4, 0, "(4, 0)"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.text);
    CHECK(c.shape.rank() == c.rank);
    CHECK(c.shape.size() == c.size);
    CHECK(c.shape.rows() == c.rows);
    CHECK(c.shape.cols() == c.cols);
    CHECK(text(c.shape) == c.text);
  }
}

TEST_CASE("axes count from either end") {
  constexpr Shape shape = {2, 3, 5};
  static_assert(shape[0] == 2 && shape[1] == 3 && shape[2] == 5);
  static_assert(shape[-1] == 5 && shape[-3] == 2);
  CHECK(shape.size() == 30);
}

TEST_CASE("append adds an innermost extent; equality compares rank and extents") {
  Shape shape;
  for (const index_t extent : {2, 3, 4}) shape.append(extent);
  CHECK(shape == Shape{2, 3, 4});
  CHECK(shape != Shape{2, 3, 4, 1});
  CHECK(shape != Shape{4, 3, 2});
  CHECK(Shape{0} != Shape{});
}

TEST_CASE("what is refused") {
  CHECK_THROWS_WITH_AS((Shape{1, 2, 3, 4, 5}), "[Shape] rank 5 exceeds 4", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{3, -1}), "[Shape] negative extent -1", ShapeError);
  Shape full{1, 2, 3, 4};
  CHECK_THROWS_WITH_AS(full.append(5), "[Shape] rank exceeds 4", ShapeError);
  CHECK(full == Shape{1, 2, 3, 4});
}

}  // namespace
