// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/nn/parameter.hpp>

namespace {
using namespace storylm;

/// A parameter and memory for it; bf16 has a master of its own.
template <class T>
struct Bound {
  explicit Bound(Shape shape, bool master = true, bool gradient = true)
      : parameter(shape), values({shape.size()}, cpu), masters({shape.size()}, cpu), gradients({shape.size()}, cpu) {
    parameter.bind(cpu, values.data(), master ? masters.data() : nullptr, gradient ? gradients.data() : nullptr);
  }
  Cpu cpu;
  nn::Parameter<T, Cpu> parameter;
  Tensor<T, Cpu> values;
  Tensor<accumulator_t<T>, Cpu> masters, gradients;
};

TEST_CASE("views have the parameter's shape; a vector is one row") {
  Bound<float> matrix({3, 4});
  CHECK(matrix.parameter.value().rows == 3);
  CHECK(matrix.parameter.value().cols == 4);
  CHECK(matrix.parameter.value().data == matrix.values.data());
  CHECK(matrix.parameter.gradient().data == matrix.gradients.data());
  Bound<float> vector({5});
  CHECK(vector.parameter.value().rows == 1);
  CHECK(vector.parameter.value().cols == 5);
}

TEST_CASE("by custom weight decay is for matrices") {
  CHECK(nn::Parameter<float, Cpu>({3, 4}).decay());
  CHECK_FALSE(nn::Parameter<float, Cpu>({4}).decay());
  CHECK_FALSE(nn::Parameter<float, Cpu>({3, 4}, false).decay());
}

TEST_CASE("assign sets master and value, the value being the master rounded") {
  const std::vector<float> exact = {1.0F, 1.0F / 3.0F, -2.7182818F, 1e-3F, 65537.0F, -0.0F};
  Bound<bf16> b({2, 3});
  b.parameter.assign(exact);
  CHECK(b.masters.to_host() == exact);
  CHECK(b.parameter.to_host() == exact);  // what checkpoints keep: not rounded
  const auto values = b.values.to_host();
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(values[i] == bf16(exact[i]));

  const std::vector<float> part = {0.1F, 0.2F};
  b.parameter.assign_part(4, part);
  CHECK(b.parameter.to_host() == std::vector<float>{1.0F, 1.0F / 3.0F, -2.7182818F, 1e-3F, 0.1F, 0.2F});
  CHECK(b.values.to_host()[5] == bf16(0.2F));
  std::vector<float> read(3);
  b.parameter.read_part(3, read);
  CHECK(read == std::vector<float>{1e-3F, 0.1F, 0.2F});
}

TEST_CASE("values that are rounded already are taken bit for bit; the master becomes what they are") {
  const std::vector<bf16> rounded = {bf16(0.1F), bf16(-3.0F)};
  for (const bool master : {true, false}) {
    Bound<bf16> b({2, 3}, master);
    CHECK(b.parameter.has_master() == master);
    b.parameter.assign_part(3, rounded);
    CHECK(b.values.to_host()[3] == rounded[0]);
    CHECK(b.values.to_host()[4] == rounded[1]);
    CHECK(b.parameter.to_host() ==
          std::vector<float>{0, 0, 0, static_cast<float>(rounded[0]), static_cast<float>(rounded[1]), 0});
    CHECK_THROWS_AS(b.parameter.assign_part(5, rounded), ShapeError);
  }
}

TEST_CASE("without a master, as in inference, the rounded value is read") {
  Bound<bf16> b({2}, false);
  b.parameter.assign(std::vector<float>{1.0F / 3.0F, 2.0F});
  CHECK(b.parameter.to_host() == std::vector<float>{static_cast<float>(bf16(1.0F / 3.0F)), 2.0F});
  CHECK(b.masters.to_host() == std::vector<float>(2));
}

TEST_CASE("what is refused") {
  Bound<float> b({2, 3});
  CHECK_THROWS_WITH_AS(b.parameter.assign(std::vector<float>(5)),
                       "[Parameter::assign] shape (2, 3) needs 6 values, got 5", ShapeError);
  CHECK_THROWS_WITH_AS(b.parameter.assign_part(4, std::vector<float>(3)), "[Parameter::assign] elements 4 to 7 of 6",
                       ShapeError);
  CHECK_THROWS_WITH_AS(b.parameter.assign_part(-1, std::vector<float>(3)), "[Parameter::assign] elements -1 to 2 of 6",
                       ShapeError);
  std::vector<float> four(4);
  CHECK_THROWS_WITH_AS(b.parameter.read_part(3, four), "[Parameter::read_part] elements 3 to 7 of 6", ShapeError);
  CHECK_THROWS_WITH_AS(b.parameter.read_part(-1, four), "[Parameter::read_part] elements -1 to 3 of 6", ShapeError);

  nn::Parameter<float, Cpu> unbound({2});
  CHECK_THROWS_WITH_AS(unbound.assign(std::vector<float>(2)),
                       "[Parameter::assign] nn::allocate has not given it memory", ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(unbound.to_host()),
                       "[Parameter::read_part] nn::allocate has not given it memory", ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(unbound.value()), "[Parameter::value] nn::allocate has not given it memory",
                       ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(unbound.gradient()), "[Parameter::gradient] allocated without gradients",
                       ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(unbound.gradient_to_host()),
                       "[Parameter::gradient_to_host] allocated without gradients", ShapeError);
  Bound<float> without({2}, true, false);
  CHECK_THROWS_WITH_AS(static_cast<void>(without.parameter.gradient()),
                       "[Parameter::gradient] allocated without gradients", ShapeError);
  CHECK_THROWS_WITH_AS(static_cast<void>(without.parameter.gradient_to_host()),
                       "[Parameter::gradient_to_host] allocated without gradients", ShapeError);
}

}  // namespace
