// SPDX-License-Identifier: MIT
// GPU: no
/// @file
/// @brief cuBLASLt's descriptors of row-major products, read back, and the values of its names. Needs no GPU.
#include <array>
#include <cstdint>

#include <storylm/kernels/cuda/cublaslt.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using cuda::Gemm;
using cuda::Transpose;
namespace epilogue = cuda::epilogue;

// The stand-in's values are the real header's: this is compiled with either.
static_assert(CUDA_R_32F == 0);
static_assert(CUDA_R_16F == 2);
static_assert(CUDA_R_16BF == 14);
static_assert(CUBLAS_STATUS_SUCCESS == 0);
static_assert(CUBLAS_STATUS_NOT_INITIALIZED == 1);
static_assert(CUBLAS_STATUS_ALLOC_FAILED == 3);
static_assert(CUBLAS_STATUS_INVALID_VALUE == 7);
static_assert(CUBLAS_STATUS_ARCH_MISMATCH == 8);
static_assert(CUBLAS_STATUS_EXECUTION_FAILED == 13);
static_assert(CUBLAS_STATUS_INTERNAL_ERROR == 14);
static_assert(CUBLAS_STATUS_NOT_SUPPORTED == 15);
static_assert(CUBLAS_OP_N == 0);
static_assert(CUBLAS_OP_T == 1);
static_assert(CUBLAS_OP_C == 2);
static_assert(CUBLAS_COMPUTE_16F == 64);
static_assert(CUBLAS_COMPUTE_32F == 68);
static_assert(CUBLAS_COMPUTE_32F_PEDANTIC == 69);
static_assert(CUBLAS_COMPUTE_32F_FAST_TF32 == 77);
static_assert(CUBLASLT_EPILOGUE_DEFAULT == 1);
static_assert(CUBLASLT_EPILOGUE_RELU == 2);
static_assert(CUBLASLT_EPILOGUE_RELU_AUX == 130);
static_assert(CUBLASLT_EPILOGUE_BIAS == 4);
static_assert(CUBLASLT_EPILOGUE_RELU_BIAS == 6);
static_assert(CUBLASLT_EPILOGUE_RELU_AUX_BIAS == 134);
static_assert(CUBLASLT_EPILOGUE_DRELU == 136);
static_assert(CUBLASLT_EPILOGUE_DRELU_BGRAD == 152);
static_assert(CUBLASLT_EPILOGUE_GELU == 32);
static_assert(CUBLASLT_EPILOGUE_GELU_AUX == 160);
static_assert(CUBLASLT_EPILOGUE_GELU_BIAS == 36);
static_assert(CUBLASLT_EPILOGUE_GELU_AUX_BIAS == 164);
static_assert(CUBLASLT_EPILOGUE_DGELU == 192);
static_assert(CUBLASLT_EPILOGUE_DGELU_BGRAD == 208);
static_assert(CUBLASLT_EPILOGUE_BGRADA == 256);
static_assert(CUBLASLT_EPILOGUE_BGRADB == 512);
static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0);
static_assert(CUBLASLT_REDUCTION_SCHEME_INPLACE == 1);
static_assert(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE == 2);
static_assert(CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE == 4);
static_assert(CUBLASLT_REDUCTION_SCHEME_MASK == 7);
static_assert(CUBLASLT_ORDER_COL == 0);
static_assert(CUBLASLT_ORDER_ROW == 1);
static_assert(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE == 0);
static_assert(CUBLASLT_MATMUL_DESC_SCALE_TYPE == 1);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3);
static_assert(CUBLASLT_MATMUL_DESC_TRANSB == 4);
static_assert(CUBLASLT_MATMUL_DESC_EPILOGUE == 7);
static_assert(CUBLASLT_MATMUL_DESC_BIAS_POINTER == 8);
static_assert(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER == 11);
static_assert(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD == 12);
static_assert(CUBLASLT_MATRIX_LAYOUT_TYPE == 0);
static_assert(CUBLASLT_MATRIX_LAYOUT_ORDER == 1);
static_assert(CUBLASLT_MATRIX_LAYOUT_ROWS == 2);
static_assert(CUBLASLT_MATRIX_LAYOUT_COLS == 3);
static_assert(CUBLASLT_MATRIX_LAYOUT_LD == 4);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1);
static_assert(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES == 6);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES == 7);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8);
static_assert(CUBLASLT_ALGO_CONFIG_ID == 0);
static_assert(CUBLASLT_ALGO_CONFIG_SPLITK_NUM == 2);
static_assert(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME == 3);

namespace {

template <class T>
T attribute(const cuda::GemmDescriptors& descriptors, cublasLtMatmulDescAttributes_t name) {
  T value{};
  std::size_t written = 0;
  REQUIRE(cublasLtMatmulDescGetAttribute(descriptors.desc.get(), name, &value, sizeof(value), &written) ==
          CUBLAS_STATUS_SUCCESS);
  REQUIRE(written == sizeof(value));
  return value;
}
/// (rows, cols, stride) that a layout has for the column-major library.
std::array<std::int64_t, 3> extents(cublasLtMatrixLayout_t layout) {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t stride = 0;
  std::int32_t order = -1;
  std::size_t written = 0;
  REQUIRE(cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof(rows), &written) ==
          CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof(cols), &written) ==
          CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof(stride), &written) ==
          CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof(order), &written) ==
          CUBLAS_STATUS_SUCCESS);
  CHECK(order == CUBLASLT_ORDER_COL);
  return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), stride};
}

}  // namespace

TEST_CASE("cuBLASLt: descriptors say to a column-major library what is meant of row-major matrices") {
  // y (m, n) = x (m, k) W (n, k)^T; what is meant to be W comes first, as the library's A
  const cuda::GemmShape shape{
      .m = 3, .n = 5, .k = 7, .stride_a = 8, .stride_b = 9, .stride_c = 10, .stride_d = 11, .stride_aux = 128};
  using Forward = Gemm<bf16, bf16, bf16, epilogue::ReluBiasBits, Transpose::no, Transpose::yes>;
  const cuda::GemmDescriptors forward(Forward::kind(), shape);
  CHECK(attribute<std::int32_t>(forward, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T);
  CHECK(attribute<std::int32_t>(forward, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_N);
  CHECK(attribute<std::uint32_t>(forward, CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
  CHECK(attribute<std::int64_t>(forward, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD) == 128);
  CHECK(attribute<std::int32_t>(forward, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE) == CUBLAS_COMPUTE_32F);
  CHECK(extents(forward.first.get()) == std::array<std::int64_t, 3>{7, 5, 9});
  CHECK(extents(forward.second.get()) == std::array<std::int64_t, 3>{7, 3, 8});
  CHECK(extents(forward.c.get()) == std::array<std::int64_t, 3>{5, 3, 10});
  CHECK(extents(forward.d.get()) == std::array<std::int64_t, 3>{5, 3, 11});
  // dW (m, n) = dy (k, m)^T x (k, n)
  using Gradient = Gemm<storylm::half, storylm::half, float, epilogue::SumsOfA, Transpose::yes, Transpose::no>;
  const cuda::GemmDescriptors gradient(
      Gradient::kind(), {.m = 3, .n = 5, .k = 7, .stride_a = 3, .stride_b = 5, .stride_c = 5, .stride_d = 5});
  CHECK(attribute<std::int32_t>(gradient, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_N);
  CHECK(attribute<std::int32_t>(gradient, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T);
  CHECK(attribute<std::uint32_t>(gradient, CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_BGRADB);
  CHECK(extents(gradient.first.get()) == std::array<std::int64_t, 3>{5, 7, 5});
  CHECK(extents(gradient.second.get()) == std::array<std::int64_t, 3>{3, 7, 3});
  CHECK(extents(gradient.d.get()) == std::array<std::int64_t, 3>{5, 3, 5});
  static_assert(Gradient::kind().a == CUDA_R_16F && Gradient::kind().d == CUDA_R_32F);
  static_assert(Gemm<float, float, float>::kind(true).compute == CUBLAS_COMPUTE_32F_FAST_TF32);
  static_assert(Gemm<bf16, bf16, bf16>::kind(true).compute == CUBLAS_COMPUTE_32F);
}

TEST_CASE("cuBLASLt: what an epilogue's flag says") {
  static_assert(!epilogue::None::adds_bias && !epilogue::None::has_aux && !epilogue::None::writes_sums);
  static_assert(epilogue::ReluBiasBits::adds_bias && epilogue::ReluBiasBits::writes_aux &&
                epilogue::ReluBiasBits::aux_is_bits);
  static_assert(epilogue::GeluBiasInput::writes_aux && !epilogue::GeluBiasInput::aux_is_bits);
  static_assert(epilogue::ReluBackward::has_aux && !epilogue::ReluBackward::writes_aux &&
                !epilogue::ReluBackward::adds_bias && !epilogue::ReluBackward::writes_sums);
  static_assert(epilogue::ReluBackwardSums::writes_sums && epilogue::GeluBackwardSums::writes_sums);
  static_assert(epilogue::SumsOfA::writes_sums && epilogue::SumsOfB::writes_sums && !epilogue::SumsOfA::has_aux);
}
