// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/core/random.hpp>
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/tensor/packed.hpp>

namespace {
using namespace storylm;
using cpu::promised::DropoutMask;

/// The definition in kernels/kernel.hpp, one element at a time.
double factor(const DropoutSpec& spec, std::uint32_t ordinal, std::int32_t position, std::uint32_t head,
              index_t column) {
  const PhiloxKey key = derive_key(spec.seed, spec.state->step, spec.site);
  const PhiloxCounter block =
      philox4x32({ordinal, static_cast<std::uint32_t>(position), head, static_cast<std::uint32_t>(column / 8)}, key);
  return lane16(block, static_cast<int>(column % 8)) >= spec.threshold() ? spec.scale() : 0.0;
}

TEST_CASE_TEMPLATE("factors are those of the definition at every begin and length", T, float, double) {
  StepState state;
  state.step = 0x123456789AU;
  const DropoutSpec spec{.probability = 0.3, .seed = 0xFEDCBA9876543210U, .site = 17, .state = &state};
  const DropoutMask mask(spec);
  REQUIRE(mask.active());
  CHECK(mask.scale() == spec.scale());
  int wrong = 0;
  for (const index_t first :
       {index_t{0}, index_t{1}, index_t{7}, index_t{8}, index_t{61}, index_t{64}, index_t{4093}}) {
    for (const index_t n : {index_t{0}, index_t{1}, index_t{3}, index_t{8}, index_t{63}, index_t{64}, index_t{65},
                            index_t{130}, index_t{517}}) {
      std::vector<T> out(static_cast<std::size_t>(n) + 1, T{-7});
      mask.factors(out.data(), 5U, 250, 3U, first, n);
      for (index_t i = 0; i < n; ++i) {
        if (out[static_cast<std::size_t>(i)] != static_cast<T>(factor(spec, 5U, 250, 3U, first + i))) ++wrong;
      }
      CHECK(out.back() == T{-7});  // nothing behind the end is touched
    }
  }
  CHECK(wrong == 0);
}

template <class A>
void check_rows(const DropoutSpec& spec, index_t width) {
  Packed<Cpu> packed({.tokens = 7, .sequences = 2, .longest = 5}, Cpu({.threads = 1}));
  packed.append(std::vector<token_t>(2), {}, 40U);
  packed.append(std::vector<token_t>(5), {}, 9U);
  const cpu::promised::RowDropout<A> rows(spec, packed.view());
  CHECK(rows.scale() == static_cast<A>(spec.scale()));
  std::vector<A> vectors(static_cast<std::size_t>(width) + 1, A{-7});
  rows.for_each_vector(5, width, [&](index_t i, auto which, cpu::promised::Vector<A> factors) {
    cpu::promised::store_as<A>(vectors.data() + i, factors, which);
  });
  int wrong = 0;
  for (index_t i = 0; i < width; ++i) {
    const A expected = spec.active() ? static_cast<A>(factor(spec, 9U, 3, 0U, i)) : A{1};
    const auto at = static_cast<std::size_t>(i);
    if (vectors[at] != expected) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(vectors.back() == A{-7});
}

TEST_CASE_TEMPLATE("rows of a batch: factors in registers are the definition's, at every width", A, float, double) {
  StepState state;
  state.step = 3;
  const DropoutSpec spec{.probability = 0.5, .seed = 4, .site = 2, .state = &state};
  for (const index_t width : {1, 5, 16, 63, 64, 65, 100, 256, 515}) {
    CAPTURE(width);
    check_rows<A>(spec, width);
    check_rows<A>({}, width);
  }
}

TEST_CASE("no probability or no state: every factor is one") {
  StepState state;
  for (const DropoutSpec& spec : {DropoutSpec{.probability = 0.0, .seed = 1, .site = 1, .state = &state},
                                  DropoutSpec{.probability = 0.5, .seed = 1, .site = 1, .state = nullptr}}) {
    const DropoutMask mask(spec);
    CHECK_FALSE(mask.active());
    std::vector<float> out(70, -1.0F);
    mask.factors(out.data(), 1U, 2, 3U, 4, 70);
    CHECK(std::ranges::all_of(out, [](float value) { return value == 1.0F; }));
  }
}

TEST_CASE("what is kept has the asked share, mean one, and changes with every part of the key and counter") {
  StepState state;
  DropoutSpec spec{.probability = 0.1, .seed = 11, .site = 5, .state = &state};
  constexpr index_t n = 200000;
  const auto draw = [&](std::uint32_t ordinal, std::int32_t position, std::uint32_t head) {
    std::vector<float> out(static_cast<std::size_t>(n));
    DropoutMask(spec).factors(out.data(), ordinal, position, head, 0, n);
    return out;
  };
  const std::vector<float> base = draw(1U, 2, 3U);
  CHECK(base == draw(1U, 2, 3U));
  double sum = 0.0;
  for (const float value : base) sum += static_cast<double>(value);
  // The mean of n factors has standard deviation sqrt(p / (1 - p) / n) = 0.00075; five of them.
  CHECK(std::fabs(sum / static_cast<double>(n) - 1.0) < 0.00375);
  CHECK(base != draw(2U, 2, 3U));
  CHECK(base != draw(1U, 3, 3U));
  CHECK(base != draw(1U, 2, 4U));
  state.step = 1;
  CHECK(base != draw(1U, 2, 3U));
  state.step = 0;
  spec.site = 6;
  CHECK(base != draw(1U, 2, 3U));
  spec.site = 5;
  spec.seed = 12;
  CHECK(base != draw(1U, 2, 3U));
  spec.seed = 11;
  CHECK(base == draw(1U, 2, 3U));
}

}  // namespace
