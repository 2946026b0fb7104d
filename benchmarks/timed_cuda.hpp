// SPDX-License-Identifier: MIT
/// @file
/// @brief A device that is Cuda with a clock beside every op, so that a model's own step says what it spends where.
///
/// No profiler is needed, and no line of the library knows of it: kernel<Op, TimedCuda, T...> is kernel<Op, Cuda, T...>
/// between two events.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>

namespace bench {

/// Times by class, from events around them.
class OpTimes {
 public:
  /// The events of one op; its end is recorded when it goes.
  class Scope {
   public:
    Scope(OpTimes& times, cudaStream_t stream, std::string_view name) : times_(times), stream_(stream) {
      if (times_.used_ == times_.spans_.size())
        times_.spans_.push_back({{}, storylm::cuda::make_timer(), storylm::cuda::make_timer()});
      span_ = times_.used_++;
      times_.spans_[span_].name = name;
      STORYLM_CUDA_CHECK(cudaEventRecord(times_.spans_[span_].begin.get(), stream_));
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { static_cast<void>(cudaEventRecord(times_.spans_[span_].end.get(), stream_)); }

   private:
    OpTimes& times_;
    cudaStream_t stream_;
    std::size_t span_ = 0;
  };

  /// Forgets what was measured.
  void reset() { used_ = 0; }
  /// Milliseconds of each class since reset(), and how often it ran. Call when the device has done its work.
  [[nodiscard]] std::map<std::string, std::pair<double, int>> totals() const {
    std::map<std::string, std::pair<double, int>> sums;
    for (std::size_t i = 0; i < used_; ++i) {
      float milliseconds = 0.0F;
      STORYLM_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, spans_[i].begin.get(), spans_[i].end.get()));
      auto& [sum, count] = sums[std::string(spans_[i].name)];
      sum += static_cast<double>(milliseconds);
      ++count;
    }
    return sums;
  }

 private:
  struct Span {
    std::string_view name;
    storylm::cuda::Event begin;
    storylm::cuda::Event end;
  };
  std::vector<Span> spans_;
  std::size_t used_ = 0;
};

/// See the file's brief.
class TimedCuda : public storylm::Cuda {
 public:
  TimedCuda(storylm::Cuda device)  // NOLINT(google-explicit-constructor): sibling() gives a Cuda
      : Cuda(std::move(device)), times_(std::make_shared<OpTimes>()) {}
  [[nodiscard]] OpTimes& times() const { return *times_; }

 private:
  std::shared_ptr<OpTimes> times_;
};
static_assert(storylm::Device<TimedCuda>);

/// The class of an op, after the table of floors. Products are told apart by what they transpose.
template <class Op>
struct OpClass {
  template <class... A>
  static std::string_view run(const A&... /*arguments*/) {
    return "other forward";
  }
  static constexpr std::string_view backward = "other backward";
};
/// A product by what it is for, of a layer whose weight is (out, in): told apart by the shapes that transformers have.
enum class Product { forward, input_gradient, weight_gradient };
inline std::string_view product_class(Product kind, storylm::index_t out, storylm::index_t in) {
  static constexpr std::string_view names[3][5] = {
      {"qkv fwd", "out fwd", "up fwd", "down fwd", "head fwd"},
      {"qkv dgrad", "out dgrad", "up dgrad", "down dgrad", "head dgrad"},
      {"qkv wgrad", "out wgrad", "up wgrad", "down wgrad", "head wgrad"},
  };
  const int layer = out == 3 * in ? 0 : out == in ? 1 : out > 4 * in ? 4 : out > in ? 2 : 3;
  return names[static_cast<int>(kind)][layer];
}

/// @cond one line each
template <>
struct OpClass<storylm::op::matmul> {
  template <class C, class A, class B>
  static std::string_view run(const C& c, const A& /*a*/, const B& b, const storylm::MatmulFlags& flags,
                              const void* /*bias*/) {
    if (flags.transpose_a) return product_class(Product::weight_gradient, c.rows, c.cols);
    return product_class(flags.transpose_b ? Product::forward : Product::input_gradient, b.rows, b.cols);
  }
};
template <>
struct OpClass<storylm::op::linear_gradient> {
  template <class D, class... A>
  static std::string_view run(const D& dweight, const A&... /*arguments*/) {
    return product_class(Product::weight_gradient, dweight.rows, dweight.cols);
  }
};
#define STORYLM_OP_CLASS(name, forward, back)                \
  template <>                                                \
  struct OpClass<storylm::op::name> {                        \
    template <class... A>                                    \
    static std::string_view run(const A&... /*arguments*/) { \
      return forward;                                        \
    }                                                        \
    static constexpr std::string_view backward = back;       \
  };
STORYLM_OP_CLASS(linear_activation, "up fwd", "down dgrad")  // with ReLU and dropout
STORYLM_OP_CLASS(column_sum, "bias gradients", "")
STORYLM_OP_CLASS(activation, "hidden dropout", "hidden dropout")
STORYLM_OP_CLASS(attention, "attention fwd", "attention bwd")
STORYLM_OP_CLASS(layer_norm, "LayerNorm fwd", "LayerNorm bwd")
STORYLM_OP_CLASS(embedding, "embedding", "embedding")
STORYLM_OP_CLASS(cross_entropy, "cross entropy", "")
STORYLM_OP_CLASS(sum, "cross entropy", "")
STORYLM_OP_CLASS(scale_to_mean, "cross entropy", "")
STORYLM_OP_CLASS(clip, "norm + Adam", "")
STORYLM_OP_CLASS(adam, "norm + Adam", "")
#undef STORYLM_OP_CLASS
/// @endcond

}  // namespace bench

namespace storylm {

/// Cuda's kernel between two events. What it has besides run and backward is inherited.
template <class Op, class... T>
requires Supports<Cuda, Op, T...>
struct kernel<Op, bench::TimedCuda, T...> : kernel<Op, Cuda, T...> {
  using Plain = kernel<Op, Cuda, T...>;

  template <class... A>
  static void run(const bench::TimedCuda& device, A&&... arguments) {
    const bench::OpTimes::Scope scope(device.times(), device.stream(), bench::OpClass<Op>::run(arguments...));
    Plain::run(device, std::forward<A>(arguments)...);
  }
  template <class... A>
  static void backward(const bench::TimedCuda& device, A&&... arguments) {
    const bench::OpTimes::Scope scope(device.times(), device.stream(), bench::OpClass<Op>::backward);
    Plain::backward(device, std::forward<A>(arguments)...);
  }
};

}  // namespace storylm
