// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix products by cuBLASLt as types: dtypes, transposes and what becomes of the product.
#pragma once

#include <concepts>
#include <cstddef>

#include <storylm/kernels/cuda/cublaslt_service.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/tensor/view.hpp>

namespace storylm::cuda {

/// cuBLASLt's name of a dtype.
template <Element T>
inline constexpr cudaDataType_t data_type = std::same_as<T, float> ? CUDA_R_32F
                                                                   : (std::same_as<T, bf16> ? CUDA_R_16BF : CUDA_R_16F);

/// What becomes of the product on its way to memory; the flag's bits say what it reads and writes besides.
template <cublasLtEpilogue_t Flag>
struct Epilogue {
  static constexpr cublasLtEpilogue_t flag = Flag;
  static constexpr bool adds_bias = (Flag & CUBLASLT_EPILOGUE_BIAS) != 0;  ///< (n) of D's dtype
  /// Sums in D's dtype, overwritten.
  static constexpr bool writes_sums = (Flag & (16 | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB)) != 0;
  static constexpr bool has_aux = (Flag & 128) != 0;  ///< memory between a forward and its backward
  static constexpr bool writes_aux = has_aux && (Flag & (CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_GELU)) != 0;
  static constexpr bool aux_is_bits = has_aux && (Flag & (CUBLASLT_EPILOGUE_RELU | 8)) != 0;  ///< else D's dtype
};
/// Satisfied by the types in namespace epilogue.
template <class E>
concept GemmEpilogue = std::same_as<E, Epilogue<E::flag>>;

/// D = f(alpha op(A) op(B) + beta C [+ bias]). GELU is the one with tanh.
namespace epilogue {
using None = Epilogue<CUBLASLT_EPILOGUE_DEFAULT>;                  ///< f(x) = x
using Bias = Epilogue<CUBLASLT_EPILOGUE_BIAS>;                     ///< f(x) = x
using Relu = Epilogue<CUBLASLT_EPILOGUE_RELU>;                     ///< f = ReLU
using ReluBias = Epilogue<CUBLASLT_EPILOGUE_RELU_BIAS>;            ///< f = ReLU
using ReluBits = Epilogue<CUBLASLT_EPILOGUE_RELU_AUX>;             ///< f = ReLU, writes where its slope is 1
using ReluBiasBits = Epilogue<CUBLASLT_EPILOGUE_RELU_AUX_BIAS>;    ///< the same with a bias
using Gelu = Epilogue<CUBLASLT_EPILOGUE_GELU>;                     ///< f = GELU
using GeluBias = Epilogue<CUBLASLT_EPILOGUE_GELU_BIAS>;            ///< f = GELU
using GeluInput = Epilogue<CUBLASLT_EPILOGUE_GELU_AUX>;            ///< f = GELU, writes its input
using GeluBiasInput = Epilogue<CUBLASLT_EPILOGUE_GELU_AUX_BIAS>;   ///< the same with a bias
using ReluBackward = Epilogue<CUBLASLT_EPILOGUE_DRELU>;            ///< f(x) = x where the bit is set, else 0
using ReluBackwardSums = Epilogue<CUBLASLT_EPILOGUE_DRELU_BGRAD>;  ///< and the sums (n) of D's columns
using GeluBackward = Epilogue<CUBLASLT_EPILOGUE_DGELU>;            ///< f(x) = x GELU'(input)
using GeluBackwardSums = Epilogue<CUBLASLT_EPILOGUE_DGELU_BGRAD>;  ///< and the sums (n) of D's columns
using SumsOfA = Epilogue<CUBLASLT_EPILOGUE_BGRADB>;                ///< sums (m) of op(A) over k; A transposed only
using SumsOfB = Epilogue<CUBLASLT_EPILOGUE_BGRADA>;                ///< sums (n) of op(B) over k; B as it is only
}  // namespace epilogue

/// What there is besides A, B and D.
template <Element TD>
struct GemmExtras {
  float alpha = 1.0F;        ///< of the product
  float beta = 0.0F;         ///< of C
  MatrixView<const TD> c{};  ///< (m, n)  D where none is given
  const TD* bias = nullptr;  ///< (n)     where the epilogue adds one
  TD* sums = nullptr;        ///< (n)     (m) of SumsOfA; where it writes them
  void* aux = nullptr;       ///< (m, stride_aux)  where it has some
  index_t stride_aux = 0;    ///< in bits, a multiple of 128, or in elements, a multiple of 8
};

/// One kind of product, all checked when it is compiled.
template <Element TA, Element TB, Element TD, GemmEpilogue E = epilogue::None, Transpose OpA = Transpose::no,
          Transpose OpB = Transpose::no>
struct Gemm {
  static_assert(std::same_as<TA, TB> && (std::same_as<TD, TA> || std::same_as<TD, float>),
                "storylm: cuBLASLt has products of one dtype, to that dtype or float");
  static_assert(!std::same_as<E, epilogue::SumsOfA> || OpA == Transpose::yes, "storylm: sums of a transposed A only");
  static_assert(!std::same_as<E, epilogue::SumsOfB> || OpB == Transpose::no, "storylm: sums of an untransposed B only");

  using Extras = GemmExtras<TD>;

  /// What it is to the library.
  static constexpr GemmKind kind(bool tf32 = false) {
    return {.a = data_type<TA>,
            .b = data_type<TB>,
            .d = data_type<TD>,
            .op_a = OpA,
            .op_b = OpB,
            .epilogue = E::flag,
            .compute = tf32 && std::same_as<TA, float> ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F};
  }
  /// Sizes. A and B as they are in memory.
  static constexpr GemmShape shape(MatrixView<TD> d, MatrixView<const TA> a, MatrixView<const TB> b,
                                   const Extras& extras) {
    return {.m = d.rows,
            .n = d.cols,
            .k = OpA == Transpose::yes ? a.rows : a.cols,
            .stride_a = a.stride,
            .stride_b = b.stride,
            .stride_c = extras.c ? extras.c.stride : d.stride,
            .stride_d = d.stride,
            .stride_aux = extras.stride_aux};
  }

  /// False when the library has no algorithm for it: nothing is done then. k is not 0. @throws CudaError,
  /// ArgumentError when `extras` are not what E needs
  [[nodiscard]] static bool try_run(const Cuda& device, MatrixView<TD> d, MatrixView<const TA> a,
                                    MatrixView<const TB> b, const Extras& extras = {}) {
    expects<ArgumentError>((extras.bias != nullptr) == E::adds_bias && (extras.sums != nullptr) == E::writes_sums &&
                               (extras.aux != nullptr) == E::has_aux && (extras.stride_aux != 0) == E::has_aux,
                           "cublasLt", "the epilogue ", static_cast<int>(E::flag), " needs other memory");
    const GemmShape sizes = shape(d, a, b, extras);
    expects<ArgumentError>(sizes.k > 0, "cublasLt", "a product over nothing, D is (", d.rows, ", ", d.cols, ')');
    if (sizes.m == 0 || sizes.n == 0) return true;
    void* vector = extras.sums;
    if constexpr (E::adds_bias) vector = const_cast<TD*>(extras.bias);  // the library's type; it only reads it
    GemmPointers pointers;  // one by one: nvcc 13 cannot take them as designated initialisers of an argument
    pointers.a = a.data;
    pointers.b = b.data;
    pointers.c = extras.c ? extras.c.data : d.data;
    pointers.d = d.data;
    pointers.vector = vector;
    pointers.aux = extras.aux;
    const GemmKind what = kind(device.options().tf32);
    return device.service<CublasLt>().run(device, what, sizes, pointers, extras.alpha, extras.beta);
  }
  /// The same where there is no other way. @throws CudaError
  static void run(const Cuda& device, MatrixView<TD> d, MatrixView<const TA> a, MatrixView<const TB> b,
                  const Extras& extras = {}) {
    expects<CudaError>(try_run(device, d, a, b, extras), "cublasLt", "has no algorithm for a product of (", d.rows,
                       ", ", d.cols, "), epilogue ", static_cast<int>(E::flag));
  }
};

}  // namespace storylm::cuda
