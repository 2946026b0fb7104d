// SPDX-License-Identifier: MIT
/// @file
/// @brief cuBLASLt as the library uses it: descriptors, every epilogue against a double loop, and which algorithm is
/// used.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/algorithm_table.hpp>
#include <storylm/kernels/cuda/cublaslt.hpp>
#include <storylm/ops/matmul.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using namespace storylm::test;
using cuda::Gemm;
using cuda::Transpose;
namespace epilogue = cuda::epilogue;

namespace {

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::numbers::sqrt2 * std::numbers::inv_sqrtpi * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  const double factor = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  const double t = std::tanh(factor * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * factor * (1.0 + 3.0 * 0.044715 * x * x);
}

/// Operands of one product. Sizes are multiples of eight: what cuBLASLt's epilogues take in all dtypes.
template <class T>
struct Operands {
  static constexpr index_t m = 24;
  static constexpr index_t n = 40;
  static constexpr index_t k = 56;
  std::vector<double> a = normal_values<T>(m * k, 1);  // (m, k), or (k, m) where it is transposed
  std::vector<double> b = normal_values<T>(n * k, 2);  // (k, n), or (n, k)
  std::vector<double> c = normal_values<T>(m * n, 3);  // (m, n)
  std::vector<double> bias = normal_values<T>(n, 4);   // (n)
  Tensor<T, Cuda> a_memory = to_cuda<T>(a, {m * k});
  Tensor<T, Cuda> b_memory = to_cuda<T>(b, {n * k});
  Tensor<T, Cuda> c_memory = to_cuda<T>(c, {m, n});
  Tensor<T, Cuda> bias_memory = to_cuda<T>(bias, {n});

  [[nodiscard]] MatrixView<const T> view_a(Transpose op) const {
    return op == Transpose::yes ? MatrixView<const T>(a_memory.data(), k, m)
                                : MatrixView<const T>(a_memory.data(), m, k);
  }
  [[nodiscard]] MatrixView<const T> view_b(Transpose op) const {
    return op == Transpose::yes ? MatrixView<const T>(b_memory.data(), n, k)
                                : MatrixView<const T>(b_memory.data(), k, n);
  }
  /// alpha op(A) op(B) + beta C [+ bias]
  [[nodiscard]] std::vector<double> product(Transpose op_a, Transpose op_b, double alpha, double beta,
                                            bool with_bias) const {
    std::vector<double> d(static_cast<std::size_t>(m * n));
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < n; ++j) {
        double sum = 0.0;
        for (index_t p = 0; p < k; ++p) {
          sum += a[static_cast<std::size_t>(op_a == Transpose::yes ? p * m + i : i * k + p)] *
                 b[static_cast<std::size_t>(op_b == Transpose::yes ? j * k + p : p * n + j)];
        }
        const auto at = static_cast<std::size_t>(i * n + j);
        d[at] = alpha * sum + beta * c[at] + (with_bias ? bias[static_cast<std::size_t>(j)] : 0.0);
      }
    }
    return d;
  }
};

bool bit_of(const std::vector<std::uint8_t>& bits, index_t row, index_t column, index_t stride) {
  const index_t bit = row * stride + column;
  return ((bits[static_cast<std::size_t>(bit / 8)] >> static_cast<unsigned>(bit % 8)) & 1U) != 0;
}

std::vector<double> column_sums(const std::vector<double>& x, index_t cols) {
  std::vector<double> sums(static_cast<std::size_t>(cols), 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) sums[i % sums.size()] += x[i];
  return sums;
}

template <class T, Transpose OpA, Transpose OpB>
void check_linear_epilogues() {
  const Operands<T> o;
  for (const double beta : {0.0, 1.0, 0.5}) {
    CAPTURE(beta);
    const auto scale = static_cast<float>(beta);
    auto d = poisoned<T>({o.m, o.n});
    Gemm<T, T, T, epilogue::None, OpA, OpB>::run(cuda_device(), d.matrix(), o.view_a(OpA), o.view_b(OpB),
                                                 {.alpha = 0.5F, .beta = scale, .c = o.c_memory.matrix()});
    check_close<T>("none", to_doubles(d), o.product(OpA, OpB, 0.5, beta, false));
    auto biased = poisoned<T>({o.m, o.n});
    Gemm<T, T, T, epilogue::Bias, OpA, OpB>::run(
        cuda_device(), biased.matrix(), o.view_a(OpA), o.view_b(OpB),
        {.beta = scale, .c = o.c_memory.matrix(), .bias = o.bias_memory.data()});
    check_close<T>("bias", to_doubles(biased), o.product(OpA, OpB, 1.0, beta, true));
  }
  auto in_place = to_cuda<T>(o.c, {o.m, o.n});
  Gemm<T, T, T, epilogue::None, OpA, OpB>::run(cuda_device(), in_place.matrix(), o.view_a(OpA), o.view_b(OpB),
                                               {.beta = 1.0F});
  check_close<T>("C is D", to_doubles(in_place), o.product(OpA, OpB, 1.0, 1.0, false));
  auto wide = to_cuda<float>(std::vector<double>(static_cast<std::size_t>(o.m * o.n), NAN), {o.m, o.n});
  Gemm<T, T, float, epilogue::None, OpA, OpB>::run(cuda_device(), wide.matrix(), o.view_a(OpA), o.view_b(OpB));
  check_close<float>("to float", to_doubles(wide), o.product(OpA, OpB, 1.0, 0.0, false));
}

/// What a checkpoint does with the table.
struct Saved {
  std::string keys;
  std::vector<std::int64_t> words;
  void operator()(std::string_view, const std::string& value) { keys = value; }
  void operator()(std::string_view, const std::vector<std::int64_t>& value) { words = value; }
};
struct Loaded {
  const Saved& saved;
  void operator()(std::string_view, std::string& value) const { value = saved.keys; }
  void operator()(std::string_view, std::vector<std::int64_t>& value) const { value = saved.words; }
};
Saved save(const AlgorithmTable& table) {
  Saved saved;
  AlgorithmTable::visit_state(table, saved);
  return saved;
}

}  // namespace

TEST_CASE("cuBLASLt: an epilogue gets the memory it needs, and no other") {
  Tensor<float, Cuda> x({4, 4}, cuda_device());
  CHECK_THROWS_AS((Gemm<float, float, float, epilogue::Bias>::run(cuda_device(), x.matrix(), x.matrix(), x.matrix())),
                  ArgumentError);
}

TEST_CASE_TEMPLATE("cuBLASLt: products and biases, all transposes", T, STORYLM_CUDA_DTYPES) {
  check_linear_epilogues<T, Transpose::no, Transpose::no>();
  check_linear_epilogues<T, Transpose::no, Transpose::yes>();
  check_linear_epilogues<T, Transpose::yes, Transpose::no>();
  check_linear_epilogues<T, Transpose::yes, Transpose::yes>();
}

TEST_CASE_TEMPLATE("cuBLASLt: ReLU forward and backward, and its bits", T, STORYLM_CUDA_DTYPES) {
  const Operands<T> o;
  constexpr auto no = Transpose::no;
  const auto pre = o.product(no, no, 1.0, 0.0, true);
  std::vector<double> expected = pre;
  for (double& v : expected) v = std::max(v, 0.0);
  auto plain = poisoned<T>({o.m, o.n});
  Gemm<T, T, T, epilogue::ReluBias>::run(cuda_device(), plain.matrix(), o.view_a(no), o.view_b(no),
                                         {.bias = o.bias_memory.data()});
  check_close<T>("relu", to_doubles(plain), expected);
  const index_t stride = 128;
  Tensor<std::uint8_t, Cuda> bits({o.m, stride / 8}, cuda_device());
  auto y = poisoned<T>({o.m, o.n});
  REQUIRE(Gemm<T, T, T, epilogue::ReluBiasBits>::try_run(
      cuda_device(), y.matrix(), o.view_a(no), o.view_b(no),
      {.bias = o.bias_memory.data(), .aux = bits.data(), .stride_aux = stride}));
  CHECK(same_bits(y, plain));
  const auto mask = bits.to_host();
  for (index_t i = 0; i < o.m; ++i) {
    for (index_t j = 0; j < o.n; ++j) {
      CHECK(bit_of(mask, i, j, stride) == (pre[static_cast<std::size_t>(i * o.n + j)] > 0.0));
    }
  }
  auto dx = poisoned<T>({o.m, o.n});
  auto sums = poisoned<T>({o.n});
  REQUIRE(Gemm<T, T, T, epilogue::ReluBackwardSums>::try_run(
      cuda_device(), dx.matrix(), o.view_a(no), o.view_b(no),
      {.alpha = 1.25F, .sums = sums.data(), .aux = bits.data(), .stride_aux = stride}));
  auto slope = o.product(no, no, 1.25, 0.0, false);
  for (std::size_t i = 0; i < slope.size(); ++i) slope[i] = pre[i] > 0.0 ? slope[i] : 0.0;
  check_close<T>("backward", to_doubles(dx), slope);
  check_close<T>("sums", to_doubles(sums), column_sums(slope, o.n));
  auto alone = poisoned<T>({o.m, o.n});
  REQUIRE(Gemm<T, T, T, epilogue::ReluBackward>::try_run(cuda_device(), alone.matrix(), o.view_a(no), o.view_b(no),
                                                         {.alpha = 1.25F, .aux = bits.data(), .stride_aux = stride}));
  check_close<T>("backward alone", to_doubles(alone), slope);
}

TEST_CASE_TEMPLATE("cuBLASLt: GELU forward and backward, and its input", T, STORYLM_CUDA_DTYPES) {
  const Operands<T> o;
  constexpr auto no = Transpose::no;
  // GPUs have been seen to be off by 2e-4 of a float: their tanh is an approximation.
  constexpr double approximate = std::is_same_v<T, float> ? 20.0 : 1.0;
  const auto pre = o.product(no, no, 0.125, 0.0, true);
  std::vector<double> expected = pre;
  for (double& v : expected) v = gelu(v);
  auto input = poisoned<T>({o.m, o.n});
  auto y = poisoned<T>({o.m, o.n});
  REQUIRE(Gemm<T, T, T, epilogue::GeluBiasInput>::try_run(
      cuda_device(), y.matrix(), o.view_a(no), o.view_b(no),
      {.alpha = 0.125F, .bias = o.bias_memory.data(), .aux = input.data(), .stride_aux = o.n}));
  check_close<T>("gelu", to_doubles(y), expected, approximate);
  check_close<T>("its input", to_doubles(input), pre);
  auto plain = poisoned<T>({o.m, o.n});
  Gemm<T, T, T, epilogue::GeluBias>::run(cuda_device(), plain.matrix(), o.view_a(no), o.view_b(no),
                                         {.alpha = 0.125F, .bias = o.bias_memory.data()});
  check_close<T>("gelu alone", to_doubles(plain), expected, approximate);
  auto dx = poisoned<T>({o.m, o.n});
  REQUIRE(Gemm<T, T, T, epilogue::GeluBackward>::try_run(cuda_device(), dx.matrix(), o.view_a(no), o.view_b(no),
                                                         {.aux = input.data(), .stride_aux = o.n}));
  const auto stored = to_doubles(input);
  auto slope = o.product(no, no, 1.0, 0.0, false);
  for (std::size_t i = 0; i < slope.size(); ++i) slope[i] *= gelu_slope(stored[i]);
  check_close<T>("backward", to_doubles(dx), slope, approximate);
}

TEST_CASE_TEMPLATE("cuBLASLt: sums of operands beside the product", T, STORYLM_CUDA_DTYPES) {
  const Operands<T> o;
  const std::vector<double> c = normal_values<float>(o.m * o.n, 9);
  {
    auto d = to_cuda<float>(c, {o.m, o.n});
    auto sums = poisoned<float>({o.m});
    REQUIRE(Gemm<T, T, float, epilogue::SumsOfA, Transpose::yes, Transpose::no>::try_run(
        cuda_device(), d.matrix(), o.view_a(Transpose::yes), o.view_b(Transpose::no),
        {.beta = 1.0F, .sums = sums.data()}));
    auto expected = o.product(Transpose::yes, Transpose::no, 1.0, 0.0, false);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += c[i];
    check_close<float>("product", to_doubles(d), expected);
    check_close<float>("sums of A", to_doubles(sums), column_sums(o.a, o.m));
  }
  auto d = poisoned<float>({o.m, o.n});
  auto sums = poisoned<float>({o.n});
  REQUIRE(Gemm<T, T, float, epilogue::SumsOfB, Transpose::yes, Transpose::no>::try_run(
      cuda_device(), d.matrix(), o.view_a(Transpose::yes), o.view_b(Transpose::no), {.sums = sums.data()}));
  check_close<float>("product", to_doubles(d), o.product(Transpose::yes, Transpose::no, 1.0, 0.0, false));
  check_close<float>("sums of B", to_doubles(sums), column_sums(o.b, o.n));
}

TEST_CASE("cuBLASLt: an algorithm by timing is kept in the table, and a resumed run uses the same") {
  const Cuda tuned({.tune_matmul = true});
  const Operands<bf16> o;
  const auto product = [&](const Cuda& device) {
    auto d = Tensor<bf16, Cuda>({o.m, o.n}, device);
    Gemm<bf16, bf16, bf16, epilogue::Bias>::run(device, d.matrix(), o.view_a(Transpose::no), o.view_b(Transpose::no),
                                                {.bias = o.bias_memory.data()});
    return d.to_host();
  };
  cuda_device().synchronize();  // another stream reads what was copied on that of all tests
  AlgorithmTable* const table = algorithm_table(tuned);
  REQUIRE(table != nullptr);
  const auto first = product(tuned);
  CHECK(table->size() == 1);
  CHECK(bits_of(product(tuned)) == bits_of(first));
  CHECK(table->size() == 1);
  CHECK(table->foreign_entries() == 0);
  const Saved saved = save(*table);
  CHECK(saved.keys.find("m 24 n 40 k 56") != std::string::npos);

  const Cuda resumed;  // without timing: the table alone says what to use
  AlgorithmTable::visit_state(*algorithm_table(resumed), Loaded{saved});
  CHECK(bits_of(product(resumed)) == bits_of(first));
  CHECK(save(*algorithm_table(resumed)).words == saved.words);

  SUBCASE("an algorithm that does not fit is named") {
    Saved other = saved;
    for (auto& word : other.words) word = 1;
    const Cuda device;
    AlgorithmTable::visit_state(*algorithm_table(device), Loaded{other});
    std::string message;
    try {
      static_cast<void>(product(device));
    } catch (const CudaError& e) {
      message = e.what();
    }
    CHECK(message.find("the algorithm that the run used does not work here") != std::string::npos);
    CHECK(message.find("m 24 n 40 k 56") != std::string::npos);
  }
  SUBCASE("a table that is loaded later is used from then on") {
    const Cuda device;
    static_cast<void>(product(device));
    Saved other = saved;
    for (auto& word : other.words) word = 1;
    AlgorithmTable::visit_state(*algorithm_table(device), Loaded{other});
    CHECK_THROWS_AS(static_cast<void>(product(device)), CudaError);
  }
  SUBCASE("entries of another GPU are not used, and counted") {
    Saved other = saved;
    other.keys = "Another GPU; " + other.keys;
    const Cuda device;
    AlgorithmTable::visit_state(*algorithm_table(device), Loaded{other});
    CHECK_NOTHROW(static_cast<void>(product(device)));
    CHECK(algorithm_table(device)->foreign_entries() == 1);
  }
}

TEST_CASE("cuBLASLt: products are recorded, and replayed with what their operands are then") {
  const Operands<float> o;
  auto a = to_cuda<float>(o.a, {o.m, o.k});
  auto d = poisoned<float>({o.m, o.n});
  Cuda::Recording recording;
  const auto run = [&] {
    recording.run(cuda_device(), [&] {
      Gemm<float, float, float>::run(cuda_device(), d.matrix(), a.matrix(), o.view_b(Transpose::no));
    });
  };
  run();
  run();
  CHECK(recording.recorded());
  check_close<float>("recorded", to_doubles(d), o.product(Transpose::no, Transpose::no, 1.0, 0.0, false));
  cuda_device().fill_zero(a.data(), a.bytes());
  run();
  CHECK(to_doubles(d) == std::vector<double>(static_cast<std::size_t>(o.m * o.n), 0.0));
}

TEST_CASE("cuBLASLt: an algorithm is timed before its product is recorded, not meanwhile") {
  const Cuda tuned({.tune_matmul = true});
  const Operands<float> o;
  cuda_device().synchronize();
  Tensor<float, Cuda> d({o.m, o.n}, tuned);
  Cuda::Recording recording;
  index_t rows = 8;
  const auto run = [&] {
    recording.run(tuned, [&] {
      Gemm<float, float, float>::run(tuned, d.matrix().slice_rows(0, rows), o.view_a(Transpose::no).slice_rows(0, rows),
                                     o.view_b(Transpose::no));
    });
  };
  run();
  rows = 16;
  CHECK_THROWS_AS(run(), CudaError);
  rows = 8;
  CHECK_NOTHROW(run());
  CHECK(recording.recorded());
  CHECK(algorithm_table(tuned)->size() == 1);
}

TEST_CASE("cuBLASLt: tf32 where it is asked for") {
  const Cuda device({.tf32 = true});
  const Operands<float> o;
  cuda_device().synchronize();
  Tensor<float, Cuda> d({o.m, o.n}, device);
  Gemm<float, float, float>::run(device, d.matrix(), o.view_a(Transpose::no), o.view_b(Transpose::no));
  check_close<storylm::half>("tf32", to_doubles(d), o.product(Transpose::no, Transpose::no, 1.0, 0.0, false));
}

#if __has_include(<emulator/engine.hpp>)
TEST_CASE("cuBLASLt: 16-bit results are never added up from 16-bit parts") {
  // Large parts that cancel: rounded to bf16 they would leave nothing right.
  const index_t k = 64;
  std::vector<double> a(static_cast<std::size_t>(k), 1.0);
  std::vector<double> b(static_cast<std::size_t>(8 * k), 0.0);
  for (index_t j = 0; j < 8; ++j) {
    for (index_t p = 0; p < k; ++p) b[static_cast<std::size_t>(j * k + p)] = p < k / 2 ? 1.0078125 : -1.0;
  }
  std::vector<double> rows(static_cast<std::size_t>(8 * k), 1.0);
  const auto x = to_cuda<bf16>(rows, {8, k});
  const auto w = to_cuda<bf16>(b, {8, k});
  for (int first = 0; first < 4; ++first) {
    emulator::matmul_offer().first = first;
    for (const bool tune : {false, true}) {
      CAPTURE(first);
      const Cuda device({.tune_matmul = tune});
      Tensor<bf16, Cuda> y({8, 8}, device);
      cuda_device().synchronize();
      ops::matmul(device, y.matrix(), x.matrix(), w.matrix(), {.transpose_b = true});
      CHECK(to_doubles(y) == std::vector<double>(64, 0.25));
    }
  }
  emulator::matmul_offer().first = 0;
}

TEST_CASE("cuBLASLt: what the library has no algorithm for is said, or done another way") {
  const Operands<bf16> o;
  const Cuda device;
  cuda_device().synchronize();
  auto d = Tensor<bf16, Cuda>({o.m, o.n}, device);
  Tensor<bf16, Cuda> sums({o.n}, device);
  emulator::matmul_offer().no_epilogues = CUBLASLT_EPILOGUE_BGRADA;
  CHECK_FALSE(Gemm<bf16, bf16, bf16, epilogue::SumsOfB>::try_run(device, d.matrix(), o.view_a(Transpose::no),
                                                                 o.view_b(Transpose::no), {.sums = sums.data()}));
  CHECK_THROWS_WITH_AS((Gemm<bf16, bf16, bf16, epilogue::SumsOfB>::run(device, d.matrix(), o.view_a(Transpose::no),
                                                                       o.view_b(Transpose::no), {.sums = sums.data()})),
                       "[cublasLt] has no algorithm for a product of (24, 40), epilogue 256", CudaError);
  emulator::matmul_offer().no_epilogues = 0;
}

TEST_CASE("the stand-in refuses what the documentation forbids") {
  cublasLtHandle_t handle{};
  REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  const auto status = [&](const cuda::GemmKind& kind, const cuda::GemmShape& shape) {
    const cuda::GemmDescriptors d(kind, shape);
    cublasLtMatmulPreference_t preference{};
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const auto code = cublasLtMatmulAlgoGetHeuristic(handle, d.desc.get(), d.first.get(), d.second.get(), d.c.get(),
                                                     d.d.get(), preference, 1, &result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    return code;
  };
  cuda::GemmShape shape{.m = 8, .n = 8, .k = 8, .stride_a = 8, .stride_b = 8, .stride_c = 8, .stride_d = 8};
  CHECK(status(Gemm<bf16, bf16, bf16>::kind(), shape) == CUBLAS_STATUS_SUCCESS);
  shape.stride_d = 7;
  CHECK(status(Gemm<bf16, bf16, bf16>::kind(), shape) == CUBLAS_STATUS_INVALID_VALUE);
  shape.stride_d = 8;
  shape.stride_aux = 64;  // bits, not a multiple of 128
  CHECK(status(Gemm<bf16, bf16, bf16, epilogue::ReluBits>::kind(), shape) == CUBLAS_STATUS_INVALID_VALUE);
  shape.stride_aux = 12;  // elements, not a multiple of 8
  CHECK(status(Gemm<bf16, bf16, bf16, epilogue::GeluInput>::kind(), shape) == CUBLAS_STATUS_INVALID_VALUE);
  shape.stride_aux = 0;
  cuda::GemmKind mixed = Gemm<bf16, bf16, bf16>::kind();
  mixed.a = CUDA_R_16F;
  CHECK(status(mixed, shape) == CUBLAS_STATUS_NOT_SUPPORTED);
  cuda::GemmKind sums = Gemm<bf16, bf16, bf16>::kind();
  sums.epilogue = CUBLASLT_EPILOGUE_BGRADB;  // of an A that is not transposed
  CHECK(status(sums, shape) == CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtDestroy(handle);
}
#endif
