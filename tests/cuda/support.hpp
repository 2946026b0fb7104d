// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of the CUDA backend share: dtypes and their tolerances, data that is the same on both devices,
/// batches with a tail, schedules.
///
/// A test here is written once and built twice: against the emulator, and against CUDA, where it is skipped without a
/// GPU (main.cpp). It compares with the CPU kernels in double, on inputs that the dtype can hold.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/cuda_device.hpp>
#include <storylm/core/random.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/tensor.hpp>

#if __has_include(<emulator/engine.hpp>)
#include <emulator/engine.hpp>
#endif

/// The dtypes that CUDA kernels are made for.
#define STORYLM_CUDA_DTYPES storylm::bf16, storylm::half, float

namespace storylm::test {

/// True where kernels run on the CPU: sizes must be small, and schedules can be chosen.
#if __has_include(<emulator/engine.hpp>)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

/// The device of all tests of an executable.
inline const Cuda& cuda_device() {
  static const Cuda device;
  return device;
}

/// Of a result against the same in double, relative to the largest element: a few roundings of T.
template <class T>
inline constexpr double tolerance_of = std::is_same_v<T, bf16>   ? 1.2e-2
                                       : std::is_same_v<T, half> ? 1.6e-3
                                                                 : 2e-5;

/// value, rounded to T.
template <class T>
double rounded(double value) {
  return static_cast<double>(static_cast<float>(T(static_cast<float>(value))));
}

/// Normal values of this deviation, rounded to T.
template <class T>
std::vector<double> normal_values(index_t size, std::uint64_t seed, double deviation = 1.0) {
  RandomStream random(seed, 0, 0x7E57);
  std::vector<double> values(static_cast<std::size_t>(size));
  for (double& v : values) v = rounded<T>(deviation * random.normal());
  return values;
}

/// The values on the GPU, in T; T may be float where they stand for accumulators.
template <class T>
Tensor<T, Cuda> to_cuda(const std::vector<double>& values, Shape shape) {
  std::vector<T> converted(values.size());
  std::transform(values.begin(), values.end(), converted.begin(), [](double v) { return T(static_cast<float>(v)); });
  return Tensor<T, Cuda>::from_host(shape, converted, cuda_device());
}
/// The values in host memory, for the CPU kernels in double.
inline Tensor<double, Cpu> to_cpu(const std::vector<double>& values, Shape shape) {
  return Tensor<double, Cpu>::from_host(shape, values, Cpu{});
}
/// All NaN: what a kernel must overwrite.
template <class T>
Tensor<T, Cuda> poisoned(Shape shape) {
  return to_cuda<T>(
      std::vector<double>(static_cast<std::size_t>(shape.size()), std::numeric_limits<double>::quiet_NaN()), shape);
}

/// As doubles, on the host.
template <class T, Device D>
std::vector<double> to_doubles(const Tensor<T, D>& tensor) {
  const std::vector<T> values = tensor.to_host();
  std::vector<double> doubles(values.size());
  std::transform(values.begin(), values.end(), doubles.begin(), [](T v) {
    if constexpr (sizeof(T) == 2) {
      return static_cast<double>(static_cast<float>(v));
    } else {
      return static_cast<double>(v);
    }
  });
  return doubles;
}

/// max |actual - expected| / max(|expected|, floor); infinite where one is NaN and the other is not.
inline double relative_difference(const std::vector<double>& actual, const std::vector<double>& expected,
                                  double floor = 1e-30) {
  REQUIRE(actual.size() == expected.size());
  double difference = 0.0;
  double largest = floor;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i]) != std::isnan(expected[i])) return INFINITY;
    if (std::isnan(actual[i])) continue;
    difference = std::max(difference, std::abs(actual[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference / largest;
}

/// Checks it against the tolerance of T, times `factor` where an op rounds more than once.
template <class T>
void check_close(const std::string& what, const std::vector<double>& actual, const std::vector<double>& expected,
                 double factor = 1.0) {
  CAPTURE(what);
  CHECK(relative_difference(actual, expected) <= factor * tolerance_of<T>);
}

/// The bits of some values, to be compared: -0 is not 0, and a NaN is itself.
template <class T>
std::vector<std::uint8_t> bits_of(const std::vector<T>& values) {
  std::vector<std::uint8_t> bits(values.size() * sizeof(T));
  if (!bits.empty()) std::memcpy(bits.data(), values.data(), bits.size());
  return bits;
}
/// True when two tensors on the GPU hold the same bits.
template <class T>
bool same_bits(const Tensor<T, Cuda>& a, const Tensor<T, Cuda>& b) {
  return bits_of(a.to_host()) == bits_of(b.to_host());
}

/// The same batch in host memory and on the GPU, there with `tail` rows more that belong to no sequence. Targets are
/// the next ids.
class TwinBatch {
 public:
  explicit TwinBatch(const std::vector<index_t>& lengths, index_t vocab_size = 11, index_t tail = 5,
                     std::uint64_t seed = 1)
      : host_(capacity_of(lengths, 0), Cpu{}), device_(capacity_of(lengths, tail), cuda_device()) {
    RandomStream random(seed, 1, 0x7E57);
    std::uint32_t ordinal = 3;
    for (const index_t length : lengths) {
      std::vector<token_t> ids(static_cast<std::size_t>(length));
      for (auto& id : ids) id = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
      std::vector<token_t> targets(ids.size(), no_target);
      if (!ids.empty()) std::copy(ids.begin() + 1, ids.end(), targets.begin());
      host_.append(ids, targets, ordinal++);
    }
    device_.assign(host_, {.tokens = host_.tokens() + tail > 0 ? host_.tokens() + tail : 1});
  }

  /// For CPU kernels.
  [[nodiscard]] PackedView host() const { return host_.view(); }
  /// For CUDA kernels.
  [[nodiscard]] PackedView device() const { return device_.view(); }
  /// Rows of an activation on the CPU.
  [[nodiscard]] index_t tokens() const { return host_.tokens(); }
  /// Rows of an activation on the GPU, the tail among them.
  [[nodiscard]] index_t rows() const { return device_.tokens(); }
  /// In host memory.
  [[nodiscard]] const Packed<Cpu>& packed() const { return host_; }

 private:
  static Capacity capacity_of(const std::vector<index_t>& lengths, index_t tail) {
    Capacity capacity{.tokens = tail, .sequences = static_cast<index_t>(lengths.size()), .longest = 1};
    for (const index_t length : lengths) {
      capacity.tokens += length;
      capacity.longest = std::max(capacity.longest, length);
    }
    capacity.tokens = std::max<index_t>(capacity.tokens, 1);
    return capacity;
  }

  Packed<Cpu> host_;
  Packed<Cuda> device_;
};

/// Values of `tokens` rows with `tail` rows of something else behind them, for what a kernel gets beyond its sequences.
inline std::vector<double> with_tail(std::vector<double> values, index_t tail_elements, double value = 1.0) {
  values.insert(values.end(), static_cast<std::size_t>(tail_elements), value);
  return values;
}
/// The first rows of it.
inline std::vector<double> without_tail(std::vector<double> values, index_t elements) {
  values.resize(static_cast<std::size_t>(elements));
  return values;
}

/// A StepState on the GPU and one in host memory, equal.
class TwinState {
 public:
  explicit TwinState(const StepState& state = {.step = 5})
      : host_(state), device_({index_t{sizeof(StepState)}}, cuda_device()) {
    write();
  }
  TwinState(const TwinState&) = delete;
  TwinState& operator=(const TwinState&) = delete;

  /// In host memory.
  [[nodiscard]] StepState* host() { return &host_; }
  /// In the GPU's memory.
  [[nodiscard]] StepState* device() { return reinterpret_cast<StepState*>(device_.data()); }
  /// Makes the GPU's equal to the host's.
  void write() { cuda_device().copy_from_host(device_.data(), &host_, sizeof(StepState)); }
  /// The GPU's, now.
  [[nodiscard]] StepState read() const {
    StepState now;
    cuda_device().copy_to_host(&now, device_.data(), sizeof(StepState));
    cuda_device().synchronize();
    return now;
  }

 private:
  StepState host_;
  Tensor<std::uint8_t, Cuda> device_;
};

/// Calls f(schedule) for several orders in which threads, warps and blocks run; once on a GPU, which has its own.
template <class F>
void for_each_schedule(F&& f, unsigned schedules = 3) {
#if __has_include(<emulator/engine.hpp>)
  for (unsigned seed = 1; seed <= schedules; ++seed) {
    CAPTURE(seed);
    emulator::set_seed(seed);
    f(seed);
  }
#else
  static_cast<void>(schedules);
  f(0U);
#endif
}

}  // namespace storylm::test
