// SPDX-License-Identifier: MIT
/// @file
/// @brief cuBLASLt on one context: descriptors of row-major products, and the algorithms chosen for them.
///
/// Row-major D (m, n) = op(A) op(B) is to the column-major library D^T (n, m) = op(B)^T op(A)^T: its first operand is
/// our B, its second our A, each with the flag it has here, and what it says of rows is said of our columns. A bias
/// runs along our columns.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <cublasLt.h>

#include <storylm/core/algorithm_table.hpp>
#include <storylm/core/cuda_device.hpp>
#include <storylm/core/dtype.hpp>

namespace storylm::cuda {

namespace detail {
/// Refusals of cuBLASLt as exceptions. @throws CudaError
inline void expects_cublas_success(cublasStatus_t status, const char* call) {
  expects<CudaError>(status == CUBLAS_STATUS_SUCCESS, "cublasLt", cublasLtGetStatusName(status), ": ", call);
}
using MatmulDesc = Unique<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayout = Unique<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulPreference = Unique<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;
using MatmulHandle = Unique<cublasLtHandle_t, cublasLtDestroy>;
}  // namespace detail

/// How an operand is given.
enum class Transpose : std::int32_t { no = CUBLAS_OP_N, yes = CUBLAS_OP_T };

/// All that a product is apart from its sizes.
struct GemmKind {
  cudaDataType_t a = CUDA_R_32F;
  cudaDataType_t b = CUDA_R_32F;
  cudaDataType_t d = CUDA_R_32F;  ///< of C too
  Transpose op_a = Transpose::no;
  Transpose op_b = Transpose::no;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  friend auto operator<=>(const GemmKind&, const GemmKind&) = default;
};
/// Sizes: D (m, n) = op(A) (m, k) op(B) (k, n); strides are elements from one row to the next.
struct GemmShape {
  index_t m = 0;
  index_t n = 0;
  index_t k = 0;
  index_t stride_a = 0;
  index_t stride_b = 0;
  index_t stride_c = 0;
  index_t stride_d = 0;
  index_t stride_aux = 0;  ///< in bits or elements; 0: none
  friend auto operator<=>(const GemmShape&, const GemmShape&) = default;
};
/// Memory: what an epilogue does without is null.
struct GemmPointers {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  void* vector = nullptr;  ///< bias or sums
  void* aux = nullptr;
};

/// cuBLASLt's descriptors of one product. They can be made without a GPU.
class GemmDescriptors {
 public:
  /// @throws CudaError
  GemmDescriptors(const GemmKind& kind, const GemmShape& shape) {
    cublasLtMatmulDesc_t made{};
    detail::expects_cublas_success(cublasLtMatmulDescCreate(&made, kind.compute, CUDA_R_32F), "descriptor");
    desc.reset(made);
    set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(kind.op_b));
    set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(kind.op_a));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(kind.epilogue));
    if (shape.stride_aux != 0) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{shape.stride_aux});
    // the rows and columns that an operand has in memory
    const auto [b_rows, b_cols] =
        kind.op_b == Transpose::no ? std::pair(shape.k, shape.n) : std::pair(shape.n, shape.k);
    const auto [a_rows, a_cols] =
        kind.op_a == Transpose::no ? std::pair(shape.m, shape.k) : std::pair(shape.k, shape.m);
    first = layout(kind.b, b_rows, b_cols, shape.stride_b);
    second = layout(kind.a, a_rows, a_cols, shape.stride_a);
    c = layout(kind.d, shape.m, shape.n, shape.stride_c);
    d = layout(kind.d, shape.m, shape.n, shape.stride_d);
  }
  /// Heuristics look at their alignment, products use them. @throws CudaError
  void bind(const GemmPointers& pointers) const {
    if (pointers.vector != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.vector);
    if (pointers.aux != nullptr) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointers.aux);
  }

  detail::MatmulDesc desc;      ///< of the operation
  detail::MatrixLayout first;   ///< the library's first operand, our B
  detail::MatrixLayout second;  ///< its second operand, our A
  detail::MatrixLayout c;       ///< what is added
  detail::MatrixLayout d;       ///< the result

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    detail::expects_cublas_success(cublasLtMatmulDescSetAttribute(desc.get(), attribute, &value, sizeof(value)),
                                   "descriptor's attribute");
  }
  /// A row-major matrix: to the library, its transpose.
  static detail::MatrixLayout layout(cudaDataType_t type, index_t rows, index_t cols, index_t stride) {
    cublasLtMatrixLayout_t made{};
    detail::expects_cublas_success(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(cols),
                                                              static_cast<std::uint64_t>(rows), stride),
                                   "layout");
    return detail::MatrixLayout(made);
  }
};

/// cuBLASLt on one context: its handle, its workspace, and a plan for every product seen so far. A service of Cuda.
class CublasLt {
 public:
  /// @throws CudaError
  explicit CublasLt(const Cuda& device)
      : memory_{.stream = device.stream(), .pool = {}},
        workspace_bytes_(device.properties().capability >= 90 ? std::size_t{32} << 20U : std::size_t{4} << 20U) {
    cublasLtHandle_t handle{};
    detail::expects_cublas_success(cublasLtCreate(&handle), "cublasLtCreate");
    handle_.reset(handle);
    workspace_ = device.allocate(workspace_bytes_);
    std::ostringstream text;
    text << device.properties().name << "; cublasLt " << cublasLtGetVersion() << ';';
    origin_ = text.str();
    device.service<AlgorithmTable>().belongs_to(origin_);
  }
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;
  ~CublasLt() { memory_.deallocate(workspace_); }

  /// Gives the product to the device; false when the library has no algorithm for it. @throws CudaError
  [[nodiscard]] bool run(const Cuda& device, const GemmKind& kind, const GemmShape& shape, const GemmPointers& pointers,
                         float alpha, float beta) {
    const AlgorithmTable& table = device.service<AlgorithmTable>();
    if (std::exchange(table_generation_, table.generation()) != table.generation()) plans_.clear();
    const Key key{.kind = kind,
                  .shape = shape,
                  .alignments = {alignment(pointers.a), alignment(pointers.b), alignment(pointers.c),
                                 alignment(pointers.d), alignment(pointers.vector), alignment(pointers.aux)},
                  .adds_c = beta != 0.0F};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      Plan plan{.descriptors = {kind, shape}, .algorithm = {}};
      plan.descriptors.bind(pointers);
      plan.algorithm = choose(device, key, plan.descriptors, pointers);
      found = plans_.emplace(key, std::move(plan)).first;
    }
    Plan& plan = found->second;
    if (!plan.algorithm) return false;
    const cublasStatus_t status = multiply(device, plan.descriptors, *plan.algorithm, pointers, alpha, beta);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED && has_substitute(kind)) {  // more than the heuristics knew
      plan.algorithm.reset();
      return false;
    }
    expects<CudaError>(status == CUBLAS_STATUS_SUCCESS, "cublasLt", cublasLtGetStatusName(status), ": ", text(key));
    return true;
  }

 private:
  static constexpr int most_candidates = 16;

  /// A name for the library's nameless type: nvcc 13 cannot have those in std::optional and std::vector.
  struct Algorithm {
    cublasLtMatmulAlgo_t value;
  };
  /// What a plan is made for.
  struct Key {
    GemmKind kind;
    GemmShape shape;
    std::array<std::uint32_t, 6> alignments;  // of a, b, c, d, the vector and aux
    bool adds_c;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Plan {
    GemmDescriptors descriptors;
    std::optional<Algorithm> algorithm;  // none where the library has none
  };

  /// Of an address, 16 at most: no algorithm needs more, and where scratch memory happens to lie must not choose one.
  static std::uint32_t alignment(const void* p) {
    const auto address = reinterpret_cast<std::uintptr_t>(p) | 16U;
    return static_cast<std::uint32_t>(address & (~address + 1));
  }

  /// True where callers know another way: all but plain products and those with a bias.
  static bool has_substitute(const GemmKind& kind) {
    return kind.epilogue != CUBLASLT_EPILOGUE_DEFAULT && kind.epilogue != CUBLASLT_EPILOGUE_BIAS;
  }

  /// What is added in parts must be kept in float until it is whole: 16-bit parts lose what they cancel.
  static std::uint32_t reduction_schemes(const GemmKind& kind) {
    return kind.d == CUDA_R_32F ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  }

  [[nodiscard]] std::string text(const Key& key) const {
    const auto type = [](cudaDataType_t t) {
      return t == CUDA_R_32F ? dtype_traits<float>::name
                             : (t == CUDA_R_16BF ? dtype_traits<bf16>::name : dtype_traits<half>::name);
    };
    const GemmShape& s = key.shape;
    std::ostringstream out;
    out << origin_ << ' ' << type(key.kind.a) << (key.kind.op_a == Transpose::yes ? "^T" : "") << " by "
        << type(key.kind.b) << (key.kind.op_b == Transpose::yes ? "^T" : "") << " to " << type(key.kind.d) << "; m "
        << s.m << " n " << s.n << " k " << s.k << "; strides " << s.stride_a << ' ' << s.stride_b << ' ' << s.stride_c
        << ' ' << s.stride_d << ' ' << s.stride_aux << "; alignments";
    for (const std::uint32_t bytes : key.alignments) out << ' ' << bytes;
    out << "; epilogue " << static_cast<int>(key.kind.epilogue) << "; compute " << static_cast<int>(key.kind.compute)
        << (key.adds_c ? "; adds C" : "");
    return out.str();
  }

  [[nodiscard]] std::optional<Algorithm> choose(const Cuda& device, const Key& key, const GemmDescriptors& descriptors,
                                                const GemmPointers& pointers) {
    auto& table = device.service<AlgorithmTable>();
    const std::string name = text(key);
    if (const auto words = table.find(name)) return kept(name, *words, descriptors);
    const bool tune = device.options().tune_matmul;
    const auto found = candidates(key, descriptors, tune ? most_candidates : 1);
    if (found.empty()) return std::nullopt;
    if (!tune) return found.front();
    const Algorithm best = fastest(device, key, descriptors, pointers, found);
    AlgorithmWords words{};
    static_assert(sizeof(words) == sizeof(best));
    std::memcpy(words.data(), &best, sizeof(best));
    table.insert(name, words);
    return best;
  }

  /// An algorithm of the table. @throws CudaError when it cannot be used here
  [[nodiscard]] Algorithm kept(const std::string& name, const AlgorithmWords& words,
                               const GemmDescriptors& descriptors) const {
    Algorithm algorithm{};
    std::memcpy(&algorithm, words.data(), sizeof(algorithm));
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(
        handle_.get(), descriptors.desc.get(), descriptors.first.get(), descriptors.second.get(), descriptors.c.get(),
        descriptors.d.get(), &algorithm.value, &result);
    expects<CudaError>(status == CUBLAS_STATUS_SUCCESS, "cublasLt",
                       "the algorithm that the run used does not work here: ", cublasLtGetStatusName(status), ", ",
                       name);
    expects<CudaError>(result.workspaceSize <= workspace_bytes_, "cublasLt", "the algorithm that the run used needs ",
                       result.workspaceSize, " bytes of workspace, there are ", workspace_bytes_, ": ", name);
    return algorithm;
  }

  /// The library's proposals, the one it takes for the fastest first.
  [[nodiscard]] std::vector<Algorithm> candidates(const Key& key, const GemmDescriptors& descriptors,
                                                  int wanted) const {
    cublasLtMatmulPreference_t made{};
    detail::expects_cublas_success(cublasLtMatmulPreferenceCreate(&made), "preference");
    const detail::MatmulPreference preference(made);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      detail::expects_cublas_success(
          cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)), "preference");
    };
    const std::uint32_t schemes = reduction_schemes(key.kind);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes_});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.alignments[1]);  // the library's A is our B
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.alignments[0]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.alignments[2]);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.alignments[3]);
    std::array<cublasLtMatmulHeuristicResult_t, most_candidates> results{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), descriptors.desc.get(), descriptors.first.get(), descriptors.second.get(), descriptors.c.get(),
        descriptors.d.get(), preference.get(), wanted, results.data(), &count);
    std::vector<Algorithm> usable;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_INVALID_VALUE && has_substitute(key.kind))) {
      return usable;
    }
    expects<CudaError>(status == CUBLAS_STATUS_SUCCESS, "cublasLt", cublasLtGetStatusName(status), ": ", text(key));
    for (int i = 0; i < count; ++i) {
      const auto& result = results[static_cast<std::size_t>(i)];
      std::uint32_t scheme = 0;
      detail::expects_cublas_success(
          cublasLtMatmulAlgoConfigGetAttribute(&result.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                               sizeof(scheme), nullptr),
          "reduction scheme");
      const bool fits = result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes_;
      if (fits && (scheme & ~schemes) == 0) usable.push_back({result.algo});
    }
    return usable;
  }

  /// The fastest of five runs each on the real operands; what they would write goes to scratch memory.
  [[nodiscard]] Algorithm fastest(const Cuda& device, const Key& key, const GemmDescriptors& descriptors,
                                  const GemmPointers& pointers, const std::vector<Algorithm>& found) const {
    expects<CudaError>(!cuda::is_capturing(device.stream()), "cublasLt",
                       "algorithms cannot be timed while work is recorded: ", text(key));
    auto scratch = device.scratch();
    const auto zeros = [&](index_t bytes) {
      auto* const p = scratch.template take<std::byte>(bytes + 256);
      device.fill_zero(p, static_cast<std::size_t>(bytes) + 256);
      // on a boundary like the real one's
      return p + (256 - reinterpret_cast<std::uintptr_t>(p) % 256) % 256;
    };
    const GemmShape& s = key.shape;
    const index_t element = key.kind.d == CUDA_R_32F ? 4 : 2;
    GemmPointers other = pointers;
    other.d = zeros(s.m * s.stride_d * element);
    if (pointers.c == pointers.d) other.c = other.d;
    const unsigned flag = key.kind.epilogue;
    const bool writes_aux = (flag & (CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_GELU)) != 0;
    const bool bits = (flag & CUBLASLT_EPILOGUE_RELU) != 0;
    if (pointers.aux != nullptr && writes_aux)
      other.aux = zeros(bits ? s.m * s.stride_aux / 8 : s.m * s.stride_aux * element);
    if (pointers.vector != nullptr && (flag & CUBLASLT_EPILOGUE_BIAS) == 0) {
      other.vector = zeros((s.m + s.n) * element);
    }
    descriptors.bind(other);
    const Event start = make_timer();
    const Event end = make_timer();
    std::size_t best = 0;
    float best_time = std::numeric_limits<float>::infinity();
    const auto runs = [&](const Algorithm& algorithm, int count) {
      for (int i = 0; i < count; ++i) {
        const float beta = key.adds_c ? 1.0F : 0.0F;
        if (multiply(device, descriptors, algorithm, other, 1.0F, beta) != CUBLAS_STATUS_SUCCESS) return false;
      }
      return true;
    };
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (!runs(found[i], 1)) continue;
      STORYLM_CUDA_CHECK(cudaEventRecord(start.get(), device.stream()));
      static_cast<void>(runs(found[i], 5));
      STORYLM_CUDA_CHECK(cudaEventRecord(end.get(), device.stream()));
      STORYLM_CUDA_CHECK(cudaEventSynchronize(end.get()));
      float time = 0.0F;
      STORYLM_CUDA_CHECK(cudaEventElapsedTime(&time, start.get(), end.get()));
      if (time < best_time) {
        best = i;
        best_time = time;
      }
    }
    return found[best];
  }

  [[nodiscard]] cublasStatus_t multiply(const Cuda& device, const GemmDescriptors& descriptors,
                                        const Algorithm& algorithm, const GemmPointers& pointers, float alpha,
                                        float beta) const {
    descriptors.bind(pointers);
    return cublasLtMatmul(handle_.get(), descriptors.desc.get(), &alpha, pointers.b, descriptors.first.get(),
                          pointers.a, descriptors.second.get(), &beta, pointers.c, descriptors.c.get(), pointers.d,
                          descriptors.d.get(), &algorithm.value, workspace_, workspace_bytes_, device.stream());
  }

  detail::MatmulHandle handle_;
  Cuda::Memory memory_;
  std::size_t workspace_bytes_;
  void* workspace_ = nullptr;
  std::string origin_;
  std::map<Key, Plan> plans_;
  std::uint64_t table_generation_ = 0;
};

}  // namespace storylm::cuda
