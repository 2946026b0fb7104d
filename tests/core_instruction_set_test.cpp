// SPDX-License-Identifier: MIT
/// @file
/// @brief Instruction sets: their names, which one a Cpu takes, what it refuses, and that all compute the same.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/core/instruction_set.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/ops/activation.hpp>
#include <storylm/ops/matmul.hpp>

namespace {
using namespace storylm;

constexpr InstructionSet all_sets[] = {InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512,
                                       InstructionSet::avx512_bf16};

/// The environment's STORYLM_INSTRUCTION_SET while it lives; as it was afterwards.
class Environment {
 public:
  explicit Environment(const char* value) {
    if (const char* const old = std::getenv(name)) before_ = old;
    set(value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static constexpr const char* name = "STORYLM_INSTRUCTION_SET";
  static void set(const char* value) {
    if (value != nullptr) {
      ::setenv(name, value, 1);
    } else {
      ::unsetenv(name);
    }
  }
  std::optional<std::string> before_;
};

[[nodiscard]] bool usable(InstructionSet set) {
  return lowest_instruction_set <= set && set <= highest_instruction_set && set <= machine_instruction_set();
}

TEST_CASE("InstructionSet: each has its name, and nothing else is one") {
  for (const InstructionSet set : all_sets) CHECK(to_instruction_set(to_string(set)) == set);
  CHECK(to_string(InstructionSet::avx512_bf16) == "avx512_bf16");
  CHECK_THROWS_WITH_AS(static_cast<void>(to_instruction_set("sse9")),
                       "[InstructionSet] \"sse9\" is none of baseline, avx2, avx512, avx512_bf16", ArgumentError);
  CHECK_THROWS_AS(static_cast<void>(to_instruction_set("AVX2")), ArgumentError);
}

TEST_CASE("Cpu: the richest set of machine and build, or what the environment says, or what it is told") {
  const Environment none(nullptr);
  CHECK(machine_instruction_set() >= lowest_instruction_set);  // else this would not run
  CHECK(Cpu().instruction_set() == std::min(machine_instruction_set(), highest_instruction_set));
  {
    const Environment empty("");
    CHECK(Cpu().instruction_set() == std::min(machine_instruction_set(), highest_instruction_set));
  }
  for (const InstructionSet set : all_sets) {
    if (!usable(set)) continue;
    const std::string name(to_string(set));
    const Environment named(name.c_str());
    CHECK(Cpu().instruction_set() == set);
    CHECK(Cpu({.instruction_set = lowest_instruction_set}).instruction_set() == lowest_instruction_set);
  }
  const Environment wrong("fast");
  CHECK_THROWS_WITH_AS(Cpu(), "[InstructionSet] \"fast\" is none of baseline, avx2, avx512, avx512_bf16",
                       ArgumentError);
}

TEST_CASE("Cpu: a set that the build or the machine lacks is refused") {
  for (const InstructionSet set : all_sets) {
    const std::string name(to_string(set));
    const Environment named(name.c_str());
    if (usable(set)) {
      CHECK_NOTHROW(Cpu({.instruction_set = set}));
      CHECK_NOTHROW(Cpu());
      continue;
    }
    const bool built = lowest_instruction_set <= set && set <= highest_instruction_set;
    const std::string why = built ? "[Cpu] instruction set " + name + " is not this machine's, which has " +
                                        std::string(to_string(machine_instruction_set()))
                                  : "[Cpu] instruction set " + name + " is not in this build, which has " +
                                        std::string(to_string(lowest_instruction_set)) + " to " +
                                        std::string(to_string(highest_instruction_set));
    CHECK_THROWS_WITH_AS(Cpu({.instruction_set = set}), why.c_str(), ArgumentError);
    CHECK_THROWS_WITH_AS(Cpu(), why.c_str(), ArgumentError);
  }
}

/// gelu(A B^T), and what the activation's backward makes of it, (rows, cols) each.
struct Results {
  std::vector<float> forward, backward;
  bool operator==(const Results&) const = default;
};

constexpr index_t rows = 37, cols = 45, depth = 300;

[[nodiscard]] Results compute(const Cpu& device, const std::vector<float>& a, const std::vector<float>& b) {
  Results results{std::vector<float>(rows * cols), std::vector<float>(rows * cols)};
  std::vector<float> product(rows * cols);
  const auto view = [](std::vector<float>& values) { return MatrixView<float>{values.data(), rows, cols, cols}; };
  ops::matmul(device, view(product), MatrixView<const float>{a.data(), rows, depth, depth},
              MatrixView<const float>{b.data(), cols, depth, depth}, {.transpose_b = true});
  ops::activation(device, view(results.forward), view(product), Activation::gelu_tanh, {}, {});
  ops::activation_backward(device, view(results.backward), view(product), view(product), view(results.forward),
                           Activation::gelu_tanh, {}, {});
  return results;
}

TEST_CASE("every set of machine and build agrees with double, with the same bits for any number of threads") {
  std::vector<float> a(rows * depth), b(cols * depth);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i) * 0.7F);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = 0.1F * std::cos(static_cast<float>(i) * 1.3F);
  int tried = 0;
  for (const InstructionSet set : all_sets) {
    if (!usable(set)) continue;
    CAPTURE(to_string(set));
    ++tried;
    const Results results = compute(Cpu({.threads = 1, .instruction_set = set}), a, b);
    for (const int threads : {2, 3, 8}) {
      CHECK(compute(Cpu({.threads = threads, .instruction_set = set}), a, b) == results);
    }
    double largest = 0.0;
    for (index_t r = 0; r < rows; ++r) {
      for (index_t c = 0; c < cols; ++c) {
        double x = 0.0;
        for (index_t k = 0; k < depth; ++k) {
          x += static_cast<double>(a[static_cast<std::size_t>(r * depth + k)]) *
               static_cast<double>(b[static_cast<std::size_t>(c * depth + k)]);
        }
        const double u = 0.7978845608028654 * (x + 0.044715 * x * x * x), t = std::tanh(u);
        const double slope =
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * x * x);
        const auto i = static_cast<std::size_t>(r * cols + c);
        largest = std::max({largest, std::abs(0.5 * x * (1.0 + t) - static_cast<double>(results.forward[i])),
                            std::abs(x * slope - static_cast<double>(results.backward[i]))});
      }
    }
    CHECK(largest < 1e-5);
  }
  CHECK(tried >= 1);
}

}  // namespace
