// SPDX-License-Identifier: MIT
/// @file
/// @brief Whether cuBLASLt reads a ReLU's bits as our kernels write them: tried out, not taken for granted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/kernels/cuda/cublaslt.hpp>

namespace storylm::cuda {

/// The answer for one dtype in one context, a service of Cuda. Where the two differed, gradients would be wrong and
/// nothing else would show it; cuBLASLt's documentation speaks of a mask of bits, and not of their order.
///
/// Products with the epilogue and without round differently, so the answer must not depend on when it is asked for: one
/// small product finds it, when the first backward runs, and the host waits for it that once. That cannot be recorded.
template <Element T>
class ReluBackwardCheck {
 public:
  /// @throws CudaError, also inside a recording
  explicit ReluBackwardCheck(const Cuda& device) : as_written_(tried_out(device)) {}

  /// True when epilogue::ReluBackward gives alpha times the product where bit (column % 8) of byte (column / 8) of a
  /// row is set, and 0 elsewhere. False too where the library has no such product.
  [[nodiscard]] bool as_written() const noexcept { return as_written_; }

 private:
  static constexpr index_t rows = 16;
  static constexpr index_t cols = 256;
  static constexpr index_t row_bits = 384;  // rows of bits may be longer than they need be
  static constexpr float alpha = 1.25F;     // as of dropout with a probability of 0.2

  [[nodiscard]] static bool tried_out(const Cuda& device) {
    expects<CudaError>(!is_capturing(device.stream()), "cublasLt",
                       "the first backward of a ReLU in a context cannot be recorded: how its bits are read is tried "
                       "out then");
    // The identity times small integers: exact in any dtype and any order of sums.
    RandomStream random(1);
    std::vector<T> identity(static_cast<std::size_t>(rows * rows), T(0.0F));
    for (std::size_t i = 0; i < identity.size(); i += rows + 1) identity[i] = T(1.0F);
    std::vector<T> values(static_cast<std::size_t>(rows * cols));
    for (T& v : values) v = T(static_cast<float>(random.below(4) + 1) * (random.below(2) == 0 ? 1.0F : -1.0F));
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(rows * row_bits / 8));
    for (std::uint8_t& b : bits) b = static_cast<std::uint8_t>(random.below(256));

    auto scratch = device.scratch();
    const auto upload = [&]<class V>(const std::vector<V>& from) {
      auto* const to = scratch.template take<V>(static_cast<index_t>(from.size()));
      device.copy_from_host(to, from.data(), from.size() * sizeof(V));
      return to;
    };
    const MatrixView<const T> a(upload(identity), rows, rows);
    const MatrixView<const T> b(upload(values), rows, cols);
    void* const aux = upload(bits);
    const MatrixView<T> d(scratch.template take<T>(rows * cols), rows, cols);
    const GemmExtras<T> extras{.alpha = alpha, .aux = aux, .stride_aux = row_bits};
    if (!Gemm<T, T, T, epilogue::ReluBackward>::try_run(device, d, a, b, extras)) return false;

    std::vector<T> found(values.size());
    device.copy_to_host(found.data(), d.data, found.size() * sizeof(T));
    device.synchronize();
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::size_t bit = i / cols * row_bits + i % cols;
      const bool passes = ((bits[bit / 8] >> (bit % 8)) & 1U) != 0;
      const float expected = passes ? alpha * static_cast<float>(values[i]) : 0.0F;
      if (static_cast<float>(found[i]) != expected) return false;  // NaN is found too
    }
    return true;
  }

  bool as_written_;
};

}  // namespace storylm::cuda
