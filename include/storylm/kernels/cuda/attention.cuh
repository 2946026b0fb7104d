// SPDX-License-Identifier: MIT
/// @file
/// @brief op::attention on CUDA: which kernels run.
#pragma once

#include <type_traits>

#include <storylm/kernels/cuda/attention.hpp>
#include <storylm/kernels/cuda/attention_backward_long.cuh>
#include <storylm/kernels/cuda/attention_backward_short.cuh>
#include <storylm/kernels/cuda/attention_float.cuh>
#include <storylm/kernels/cuda/attention_forward.cuh>

namespace storylm {
namespace cuda {

/// Tensor-core kernels exist for it.
template <class T>
[[nodiscard]] constexpr bool on_tensor_cores(index_t head_dim) {
  return sizeof(T) == 2 && head_dim <= 128;
}
/// f(columns, dropout): the kernels' template arguments for a head of up to 128 columns, which is padded to one of
/// three sizes, as constants.
template <class F>
void with_attention_constants(index_t head_dim, bool dropout, F&& f) {
  const auto with_columns = [&](auto columns) {
    dropout ? f(columns, std::true_type{}) : f(columns, std::false_type{});
  };
  if (head_dim <= 32) {
    with_columns(std::integral_constant<int, 32>{});
  } else if (head_dim <= 64) {
    with_columns(std::integral_constant<int, 64>{});
  } else {
    with_columns(std::integral_constant<int, 128>{});
  }
}

/// Backward on tensor cores. Which kernel makes the gradients of a sequence depends on its own length alone.
template <Element T>
void attention_backward(const Cuda& device, const AttentionCall<T>& call, const AttentionGradients<T>& gradients,
                        index_t longest_short) {
  with_attention_constants(call.head_dim, call.dropout.threshold != 0, [&](auto columns, auto dropout) {
    constexpr int d = columns();
    const int fits = AttentionShortShape<d>::rows_that_fit(device.properties().shared_bytes);
    const auto limit = static_cast<int>(std::min<index_t>(fits, longest_short));
    attention_backward_short<T, d, dropout()>(device, call, gradients, limit);
    if (call.batch.longest > limit) attention_backward_long<T, d, dropout()>(device, call, gradients, limit);
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::attention, Cuda, T>::run(const Cuda& device, MatrixView<T> y, accumulator_t<T>* lse,
                                         MatrixView<const T> qkv, const AttentionSpec& spec, const DropoutSpec& dropout,
                                         const PackedView& batch) {
  if (batch.tokens == 0) return;
  const cuda::AttentionCall<T> call(qkv, spec, dropout, batch);
  if constexpr (sizeof(T) == 2) {
    if (cuda::on_tensor_cores<T>(spec.head_dim)) {
      cuda::with_attention_constants(spec.head_dim, dropout.active(), [&](auto columns, auto dropped) {
        cuda::attention_forward<T, columns(), dropped()>(device, call, y, lse);
      });
      return;
    }
  }
  cuda::attention_float(device, call, y, lse);
}

template <cuda::Element T>
void kernel<op::attention, Cuda, T>::backward(const Cuda& device, MatrixView<T> dqkv, MatrixView<const T> dy,
                                              MatrixView<const T> y, const accumulator_t<T>* lse,
                                              MatrixView<const T> qkv, const AttentionSpec& spec,
                                              const DropoutSpec& dropout, const PackedView& batch,
                                              [[maybe_unused]] index_t longest_short) {
  if (batch.tokens == 0) return;
  const cuda::AttentionCall<T> call(qkv, spec, dropout, batch);
  const cuda::AttentionGradients<T> gradients(dqkv, dy, y, lse, spec.head_dim);
  if constexpr (sizeof(T) == 2) {
    if (cuda::on_tensor_cores<T>(spec.head_dim)) {
      cuda::attention_backward(device, call, gradients, longest_short);
      return;
    }
  }
  cuda::attention_float_backward(device, call, gradients);
}

}  // namespace storylm
