// SPDX-License-Identifier: MIT
/// @file
/// @brief The stand-in for cuBLASLt: a plain product with its epilogues, and its refusals.
///
/// Four algorithms, as the real library has many: one sum; two partial sums kept in float, which needs a workspace; two
/// partial sums rounded to the output's type; and one sum for matrices that are not on 16-byte boundaries. What the
/// documentation leaves open is assumed, from its wording and from public test suites, not from a GPU: ReLU's bit is
/// set where its input is not negative, and bits beyond the rows stay as they were.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <vector>

#include <cublasLt.h>
#include <emulator/engine.hpp>

#include <storylm/core/dtype.hpp>

struct cublasLtContext {
  int alive = 1;
};
struct cublasLtMatmulDescOpaque_t {
  std::int32_t compute = CUBLAS_COMPUTE_32F;
  std::int32_t scale = CUDA_R_32F;
  std::int32_t transa = CUBLAS_OP_N;
  std::int32_t transb = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  void* aux = nullptr;
  std::int64_t aux_ld = 0;
};
struct cublasLtMatrixLayoutOpaque_t {
  std::uint32_t type = 0;
  std::int32_t order = CUBLASLT_ORDER_COL;
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t ld = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace = 0;
  std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<std::uint32_t, 4> alignment{256, 256, 256, 256};
};

namespace {

using Index = std::int64_t;

constexpr std::uint64_t algorithm_mark = 0x656d756c61746f72U;
constexpr int algorithms = 4;
constexpr std::array<std::int32_t, algorithms> splits{1, 2, 2, 1};
constexpr std::array<std::uint32_t, algorithms> schemes{
    CUBLASLT_REDUCTION_SCHEME_NONE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE,
    CUBLASLT_REDUCTION_SCHEME_NONE};

// Attributes --------------------------------------------------------------------------------------------------------

template <class T>
cublasStatus_t set(T& field, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t get(const T& field, void* value, std::size_t bytes, std::size_t* written) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, &field, bytes);
  if (written != nullptr) *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
/// Calls f with the field of an attribute.
template <class Desc, class F>
cublasStatus_t with_field(Desc& desc, cublasLtMatmulDescAttributes_t attribute, const F& f) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return f(desc.compute);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return f(desc.scale);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return f(desc.transa);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return f(desc.transb);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return f(desc.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return f(desc.bias);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return f(desc.aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return f(desc.aux_ld);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

// What an epilogue is made of ---------------------------------------------------------------------------------------

struct Epilogue {
  bool bias, relu, gelu, drelu, dgelu, sum_d, sum_a, sum_b, aux;
};
Epilogue parts(std::uint32_t flag) {
  return {.bias = (flag & CUBLASLT_EPILOGUE_BIAS) != 0,
          .relu = (flag & CUBLASLT_EPILOGUE_RELU) != 0,
          .gelu = (flag & CUBLASLT_EPILOGUE_GELU) != 0,
          .drelu = (flag & 8U) != 0,
          .dgelu = (flag & 64U) != 0,
          .sum_d = (flag & 16U) != 0,
          .sum_a = (flag & CUBLASLT_EPILOGUE_BGRADA) != 0,
          .sum_b = (flag & CUBLASLT_EPILOGUE_BGRADB) != 0,
          .aux = (flag & 128U) != 0};
}
bool known(std::uint32_t flag) {
  constexpr std::array all{CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_RELU,        CUBLASLT_EPILOGUE_RELU_AUX,
                           CUBLASLT_EPILOGUE_BIAS,     CUBLASLT_EPILOGUE_RELU_BIAS,   CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
                           CUBLASLT_EPILOGUE_DRELU,    CUBLASLT_EPILOGUE_DRELU_BGRAD, CUBLASLT_EPILOGUE_GELU,
                           CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_BIAS,   CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                           CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,
                           CUBLASLT_EPILOGUE_BGRADB};
  return std::any_of(all.begin(), all.end(), [=](auto e) { return static_cast<std::uint32_t>(e) == flag; });
}

std::size_t size_of(std::uint32_t type) { return type == CUDA_R_32F ? 4 : 2; }

float load(const void* data, std::uint32_t type, Index i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  if (type == CUDA_R_16BF) return static_cast<float>(static_cast<const storylm::bf16*>(data)[i]);
  return static_cast<float>(static_cast<const storylm::half*>(data)[i]);
}
float rounded(float value, std::uint32_t type) {
  if (type == CUDA_R_32F) return value;
  if (type == CUDA_R_16BF) return static_cast<float>(storylm::bf16(value));
  return static_cast<float>(storylm::half(value));
}
void store(void* data, std::uint32_t type, Index i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else if (type == CUDA_R_16BF) {
    static_cast<storylm::bf16*>(data)[i] = storylm::bf16(value);
  } else {
    static_cast<storylm::half*>(data)[i] = storylm::half(value);
  }
}

// Checks ------------------------------------------------------------------------------------------------------------

struct Problem {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a, b, c, d;
  Index m = 0, n = 0, k = 0;  // of cuBLASLt: D is (m, n)
};

bool layout_valid(const cublasLtMatrixLayoutOpaque_t& l) {
  return l.rows > 0 && l.cols > 0 && l.ld >= static_cast<Index>(l.rows) && l.order == CUBLASLT_ORDER_COL &&
         (l.type == CUDA_R_32F || l.type == CUDA_R_16F || l.type == CUDA_R_16BF);
}

/// What the documentation says of descriptors, before any memory is known.
cublasStatus_t check(Problem& p) {
  const auto& [desc, a, b, c, d, m, n, k] = p;
  if (!layout_valid(a) || !layout_valid(b) || !layout_valid(c) || !layout_valid(d) || !known(desc.epilogue)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  p.m = static_cast<Index>(d.rows);
  p.n = static_cast<Index>(d.cols);
  p.k = static_cast<Index>(desc.transa == CUBLAS_OP_N ? a.cols : a.rows);
  const auto rows_a = static_cast<Index>(desc.transa == CUBLAS_OP_N ? a.rows : a.cols);
  const auto rows_b = static_cast<Index>(desc.transb == CUBLAS_OP_N ? b.rows : b.cols);
  const auto cols_b = static_cast<Index>(desc.transb == CUBLAS_OP_N ? b.cols : b.rows);
  if (rows_a != p.m || rows_b != p.k || cols_b != p.n || c.rows != d.rows || c.cols != d.cols) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (a.type != b.type || c.type != d.type || desc.scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (desc.compute != CUBLAS_COMPUTE_32F && desc.compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
      !(desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type == CUDA_R_32F)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (a.type == CUDA_R_32F ? d.type != CUDA_R_32F : (d.type != CUDA_R_32F && d.type != a.type)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const Epilogue e = parts(desc.epilogue);
  if (e.aux && (desc.aux_ld < p.m || desc.aux_ld % (e.relu || e.drelu ? 128 : 8) != 0)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if ((e.sum_a && desc.transa != CUBLAS_OP_N) || (e.sum_b && desc.transb != CUBLAS_OP_T)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t workspace_of(int id, const Problem& p) {
  return splits[static_cast<std::size_t>(id)] == 1 ? 0 : static_cast<std::size_t>(p.m * p.n) * 2 * sizeof(float);
}
/// What an algorithm was made for; another problem is refused.
std::uint64_t signature(const Problem& p) {
  std::uint64_t s = p.desc.epilogue;
  for (const auto part : {p.a.type, p.d.type, static_cast<std::uint32_t>(p.desc.transa * 2 + p.desc.transb)}) {
    s = s * 31 + part;
  }
  return s;
}
cublasLtMatmulAlgo_t make_algorithm(int id, const Problem& p) {
  return {{algorithm_mark, static_cast<std::uint64_t>(id), cublasLtGetVersion(), signature(p), 0, 0, 0, ~0ULL}};
}
std::uint32_t alignment_of(int id) { return id == 3 ? 1U : 16U; }

// The product -------------------------------------------------------------------------------------------------------

/// op(X) as floats, column-major, `rows` apart.
std::vector<float> dense(const void* data, const cublasLtMatrixLayoutOpaque_t& layout, std::int32_t transposed,
                         Index rows, Index cols) {
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (Index j = 0; j < cols; ++j) {
    for (Index i = 0; i < rows; ++i) {
      const Index at = transposed == CUBLAS_OP_N ? i + j * layout.ld : j + i * layout.ld;
      x[static_cast<std::size_t>(i + j * rows)] = load(data, layout.type, at);
    }
  }
  return x;
}

float gelu(float x) {
  const auto argument =
      static_cast<float>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi) * (x + 0.044715F * x * x * x);
  return 0.5F * x * (1.0F + std::tanh(argument));
}
float gelu_slope(float x) {
  const auto factor = static_cast<float>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  const float t = std::tanh(factor * (x + 0.044715F * x * x * x));
  return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * factor * (1.0F + 3.0F * 0.044715F * x * x);
}

struct Call {
  Problem p;
  float alpha, beta;
  const void* a;
  const void* b;
  const void* c;
  void* d;
  int id;
  unsigned char* workspace;
  std::size_t workspace_bytes;
  emulator::ReluBackward relu_backward;
};

void multiply(const Call& call) {
  const auto& [p, given_alpha, beta, a_data, b_data, c_data, d_data, id, workspace, workspace_bytes, relu_backward] =
      call;
  const auto& [desc, a_layout, b_layout, c_layout, d_layout, m, n, k] = p;
  // nobody may count on what the workspace held; all of it would take longer than the product
  if (workspace != nullptr) std::memset(workspace, 0xFF, std::min(workspace_bytes, std::size_t{1} << 16U));
  const std::vector<float> a = dense(a_data, a_layout, desc.transa, m, k);
  const std::vector<float> b = dense(b_data, b_layout, desc.transb, k, n);
  const Epilogue e = parts(desc.epilogue);
  const float alpha = e.drelu && relu_backward == emulator::ReluBackward::without_alpha ? 1.0F : given_alpha;
  const Index first_bit = relu_backward == emulator::ReluBackward::highest_bit_first ? 7 : 0;
  const std::uint32_t type = d_layout.type;
  auto* const bits = static_cast<unsigned char*>(desc.aux);
  std::vector<float> sums(static_cast<std::size_t>(m), 0.0F);
  std::vector<float> column(static_cast<std::size_t>(m));
  std::vector<float> partial(static_cast<std::size_t>(m));
  const Index parts_of_k = splits[static_cast<std::size_t>(id)];
  const Index each = (k + parts_of_k - 1) / parts_of_k;
  for (Index j = 0; j < n; ++j) {
    for (Index part = 0; part < parts_of_k; ++part) {
      std::fill(partial.begin(), partial.end(), 0.0F);
      for (Index x = part * each; x < std::min(k, (part + 1) * each); ++x) {
        const float factor = b[static_cast<std::size_t>(x + j * k)];
        const float* const from = a.data() + x * m;
        for (Index i = 0; i < m; ++i) partial[static_cast<std::size_t>(i)] += from[i] * factor;
      }
      for (std::size_t i = 0; i < column.size(); ++i) {
        const float kept = schemes[static_cast<std::size_t>(id)] == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE
                               ? rounded(partial[i], type)
                               : partial[i];
        column[i] = part == 0 ? kept : column[i] + kept;
      }
    }
    for (Index i = 0; i < m; ++i) {
      float value = alpha * column[static_cast<std::size_t>(i)];
      if (beta != 0.0F) value += beta * load(c_data, c_layout.type, i + j * c_layout.ld);
      if (e.bias) value += load(desc.bias, type, i);
      const Index bit = i + j * desc.aux_ld;
      if (e.relu) {
        if (e.aux) {
          const auto mask = static_cast<unsigned char>(1U << static_cast<unsigned>(bit % 8));
          bits[bit / 8] = static_cast<unsigned char>(value >= 0.0F ? bits[bit / 8] | mask : bits[bit / 8] & ~mask);
        }
        value = value > 0.0F || std::isnan(value) ? value : 0.0F;
      } else if (e.gelu) {
        if (e.aux) store(desc.aux, type, bit, value);
        value = gelu(value);
      } else if (e.drelu) {
        value = ((bits[bit / 8] >> static_cast<unsigned>(bit % 8 ^ first_bit)) & 1U) != 0 ? value : 0.0F;
      } else if (e.dgelu) {
        value *= gelu_slope(load(desc.aux, type, bit));
      }
      sums[static_cast<std::size_t>(i)] += value;
      store(d_data, type, i + j * d_layout.ld, value);
    }
  }
  if (e.sum_d) {
    for (Index i = 0; i < m; ++i) store(desc.bias, type, i, sums[static_cast<std::size_t>(i)]);
  }
  if (e.sum_a || e.sum_b) {
    for (Index i = 0; i < (e.sum_a ? m : n); ++i) {
      float sum = 0.0F;
      for (Index x = 0; x < k; ++x)
        sum += e.sum_a ? a[static_cast<std::size_t>(i + x * m)] : b[static_cast<std::size_t>(x + i * k)];
      store(desc.bias, type, i, sum);
    }
  }
}

/// First to last byte of a matrix.
bool in_device_memory(const void* data, const cublasLtMatrixLayoutOpaque_t& l) {
  return emulator::is_device_memory(data, (static_cast<std::size_t>(l.ld) * (l.cols - 1) + l.rows) * size_of(l.type));
}

}  // namespace

// The library -------------------------------------------------------------------------------------------------------

emulator::MatmulOffer& emulator::matmul_offer() {
  static MatmulOffer offer;
  return offer;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
std::size_t cublasLtGetVersion() { return 1; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  *desc = new cublasLtMatmulDescOpaque_t{.compute = compute, .scale = scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  return with_field(*desc, attribute, [=](auto& field) { return set(field, value, bytes); });
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              void* value, std::size_t bytes, std::size_t* written) {
  return with_field(*desc, attribute, [=](auto& field) { return get(field, value, bytes, written); });
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t ld) {
  *layout =
      new cublasLtMatrixLayoutOpaque_t{.type = static_cast<std::uint32_t>(type), .rows = rows, .cols = cols, .ld = ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* value,
                                                std::size_t bytes, std::size_t* written) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return get(layout->type, value, bytes, written);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return get(layout->order, value, bytes, written);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return get(layout->rows, value, bytes, written);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return get(layout->cols, value, bytes, written);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return get(layout->ld, value, bytes, written);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(preference->schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(
          preference->alignment[static_cast<std::size_t>(attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)],
          value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (handle == nullptr || wanted <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  Problem p{*desc, *a, *b, *c, *d};
  if (const cublasStatus_t status = check(p); status != CUBLAS_STATUS_SUCCESS) return status;
  *found = 0;
  if ((desc->epilogue & emulator::matmul_offer().no_epilogues) != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  bool aligned = true;
  for (const std::uint32_t bytes : preference->alignment) aligned &= bytes >= 16;
  for (const auto* const l : {a, b, c, d}) aligned &= static_cast<std::size_t>(l->ld) * size_of(l->type) % 16 == 0;
  for (int i = 0; i < algorithms && *found < wanted; ++i) {
    const int id = (i + emulator::matmul_offer().first) % algorithms;
    const std::uint32_t scheme = schemes[static_cast<std::size_t>(id)];
    if (id != 3 && !aligned) continue;
    if (scheme != 0 && ((scheme & preference->schemes) == 0 || workspace_of(id, p) > preference->workspace)) continue;
    results[(*found)++] = {.algo = make_algorithm(id, p),
                           .workspaceSize = workspace_of(id, p),
                           .state = CUBLAS_STATUS_SUCCESS,
                           .wavesCount = 1.0F,
                           .reserved = {}};
  }
  return *found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* result) {
  if (handle == nullptr || algo == nullptr || algo->data[0] != algorithm_mark || algo->data[1] >= algorithms) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  Problem p{*desc, *a, *b, *c, *d};
  if (const cublasStatus_t status = check(p); status != CUBLAS_STATUS_SUCCESS) return status;
  if (algo->data[2] != cublasLtGetVersion() || algo->data[3] != signature(p)) return CUBLAS_STATUS_INVALID_VALUE;
  if (result != nullptr) {
    result->workspaceSize = workspace_of(static_cast<int>(algo->data[1]), p);
    result->state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* value,
                                                    std::size_t bytes, std::size_t* written) {
  if (algo->data[0] != algorithm_mark) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_ID:
      return get(static_cast<std::int32_t>(algo->data[1]), value, bytes, written);
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return get(splits[algo->data[1]], value, bytes, written);
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
      return get(schemes[algo->data[1]], value, bytes, written);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  ++emulator::matmul_offer().products;
  cublasLtMatmulHeuristicResult_t needed{};
  if (alpha == nullptr || beta == nullptr || a == nullptr || b == nullptr || d == nullptr) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle, desc, a_layout, b_layout, c_layout, d_layout, algo, &needed);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Call call{.p = {*desc, *a_layout, *b_layout, *c_layout, *d_layout},
            .alpha = *static_cast<const float*>(alpha),
            .beta = *static_cast<const float*>(beta),
            .a = a,
            .b = b,
            .c = c,
            .d = d,
            .id = static_cast<int>(algo->data[1]),
            .workspace = static_cast<unsigned char*>(workspace),
            .workspace_bytes = workspace_bytes,
            .relu_backward = emulator::matmul_offer().relu_backward};
  static_cast<void>(check(call.p));
  const Epilogue e = parts(desc->epilogue);
  if (call.beta != 0.0F && c == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (e.aux && desc->aux == nullptr)
    return e.drelu || e.dgelu ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_NOT_SUPPORTED;
  if ((e.bias || e.sum_d || e.sum_a || e.sum_b) && desc->bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (needed.workspaceSize > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes != 0 && reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (c == d && c_layout->ld != d_layout->ld) return CUBLAS_STATUS_INVALID_VALUE;
  const std::uint32_t alignment = alignment_of(call.id);
  for (const void* const p : {a, b, c, static_cast<const void*>(d)}) {
    if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool here = in_device_memory(a, *a_layout) && in_device_memory(b, *b_layout) &&
                    in_device_memory(d, *d_layout) && (call.beta == 0.0F || in_device_memory(c, *c_layout)) &&
                    (workspace_bytes == 0 || emulator::is_device_memory(workspace, workspace_bytes));
  if (!here) return CUBLAS_STATUS_EXECUTION_FAILED;  // a GPU would find out later, and say less
  return emulator::submit(stream, [call] { multiply(call); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                             : CUBLAS_STATUS_EXECUTION_FAILED;
}
