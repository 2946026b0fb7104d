// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul, op::linear_gradient, op::linear_activation and op::peak_flops on CUDA, against the CPU in double.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <storylm/kernels/cuda/cublaslt.hpp>
#include <storylm/kernels/cuda/cublaslt_relu.hpp>
#include <storylm/ops/linear_activation.hpp>
#include <storylm/ops/linear_gradient.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/peak_flops.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr std::array all_flags{MatmulFlags{},
                               MatmulFlags{.transpose_a = true},
                               MatmulFlags{.transpose_b = true},
                               MatmulFlags{.transpose_a = true, .transpose_b = true},
                               MatmulFlags{.accumulate = true},
                               MatmulFlags{.transpose_a = true, .accumulate = true},
                               MatmulFlags{.transpose_b = true, .accumulate = true}};

/// C of (m, n) with k products each, from T to TC; every operand has `gap` columns more than it uses.
template <class T, class TC>
void check_matmul(index_t m, index_t n, index_t k, index_t gap, MatmulFlags flags, bool with_bias) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(gap);
  CAPTURE(flags.transpose_a);
  CAPTURE(flags.transpose_b);
  CAPTURE(flags.accumulate);
  CAPTURE(with_bias);
  const Shape shape_a = flags.transpose_a ? Shape{k, m} : Shape{m, k};
  const Shape shape_b = flags.transpose_b ? Shape{n, k} : Shape{k, n};
  const Shape wide_a{shape_a[0], shape_a[1] + gap};
  const Shape wide_b{shape_b[0], shape_b[1] + gap};
  const Shape wide_c{m, n + gap};
  const auto a = normal_values<T>(wide_a.size(), 1);
  const auto b = normal_values<T>(wide_b.size(), 2);
  const auto c = normal_values<TC>(wide_c.size(), 3);
  const auto bias = normal_values<TC>(n, 4);
  const auto part = [](auto& tensor, Shape shape) { return tensor.matrix().slice_cols(0, shape[1]); };

  const auto cpu_a = to_cpu(a, wide_a);
  const auto cpu_b = to_cpu(b, wide_b);
  auto cpu_c = to_cpu(c, wide_c);
  ops::matmul(Cpu{}, part(cpu_c, Shape{m, n}), part(cpu_a, shape_a), part(cpu_b, shape_b), flags,
              with_bias ? bias.data() : nullptr);

  const auto gpu_a = to_cuda<T>(a, wide_a);
  const auto gpu_b = to_cuda<T>(b, wide_b);
  auto gpu_c = to_cuda<TC>(c, wide_c);
  const auto gpu_bias = to_cuda<TC>(bias, {n});
  ops::matmul(cuda_device(), part(gpu_c, Shape{m, n}), part(gpu_a, shape_a), part(gpu_b, shape_b), flags,
              with_bias ? gpu_bias.data() : nullptr);
  check_close<TC>("matmul", to_doubles(gpu_c), cpu_c.to_host());  // the gap too: it stays as it was
}

/// Memory of a linear map with its activation, on one device.
template <class T, Device D>
struct Layer {
  Tensor<T, D> x, weight, bias, down, dy;
  Tensor<T, D> y, saved, dpre;

  template <class Make>
  Layer(const D& device, index_t rows, index_t in, index_t width, index_t out, Activation activation, const Make& make)
      : x(make(Shape{rows, in}, 1U)),
        weight(make(Shape{width, in}, 2U)),
        bias(make(Shape{width}, 3U)),
        down(make(Shape{out, width}, 4U)),
        dy(make(Shape{rows, out}, 5U)),
        y({rows, width}, device),
        saved({rows, ops::linear_activation_saved<D, T>(activation, width)}, device),
        dpre({rows, width}, device) {}

  void run(const D& device, Activation activation, const DropoutSpec& dropout, const PackedView& batch, bool with_bias,
           bool row_invariant) {
    const auto kept = saved.shape()[1] == 0 ? MatrixView<T>{} : saved.matrix();
    ops::linear_activation(device, y.matrix(), kept, x.matrix(), std::as_const(weight).matrix(),
                           with_bias ? bias.data() : nullptr, activation, dropout, batch, row_invariant);
    backward(device, activation, dropout, batch);
  }
  void backward(const D& device, Activation activation, const DropoutSpec& dropout, const PackedView& batch) {
    const auto kept = saved.shape()[1] == 0 ? MatrixView<T>{} : saved.matrix();
    ops::linear_activation_backward(device, dpre.matrix(), dy.matrix(), std::as_const(down).matrix(), y.matrix(), kept,
                                    activation, dropout, batch);
  }
};

template <class T>
void check_linear_activation(const Cuda& device, Activation activation, double probability, bool with_bias,
                             bool row_invariant) {
  CAPTURE(static_cast<int>(activation));
  CAPTURE(probability);
  CAPTURE(with_bias);
  CAPTURE(row_invariant);
  const index_t in = 24;
  const index_t width = 136;  // more than 128 bits
  const index_t out = 40;
  const TwinBatch batch({3, 0, 1, 7});
  TwinState state;
  const auto spec = [&](const StepState* s) {
    return DropoutSpec{.probability = probability, .seed = 11, .site = 3, .state = probability > 0.0 ? s : nullptr};
  };
  const index_t tail = batch.rows() - batch.tokens();
  Layer<double, Cpu> cpu(Cpu{}, batch.tokens(), in, width, out, activation, [&](Shape shape, unsigned seed) {
    return to_cpu(normal_values<T>(shape.size(), seed, 0.4), shape);
  });
  Layer<T, Cuda> gpu(device, batch.rows(), in, width, out, activation, [&](Shape shape, unsigned seed) {
    const bool rows = shape.rank() == 2 && shape[0] == batch.rows();
    const index_t extra = rows ? tail * shape[1] : 0;  // dy of the tail is zero, x something
    return to_cuda<T>(with_tail(normal_values<T>(shape.size() - extra, seed, 0.4), extra, seed == 5 ? 0.0 : 1.0),
                      shape);
  });
  cpu.run(Cpu{}, activation, spec(state.host()), batch.host(), with_bias, row_invariant);
  cuda_device().synchronize();  // `device` may be another stream
  gpu.run(device, activation, spec(state.device()), batch.device(), with_bias, row_invariant);
  check_close<T>("y", without_tail(to_doubles(gpu.y), batch.tokens() * width), cpu.y.to_host(), 2.0);
  const auto dpre = to_doubles(gpu.dpre);
  check_close<T>("dpre", without_tail(dpre, batch.tokens() * width), cpu.dpre.to_host(), 2.0);
  for (auto i = static_cast<std::size_t>(batch.tokens() * width); i < dpre.size(); ++i) CHECK(dpre[i] == 0.0);
}

/// A ReLU with dropout on a context of its own, its forward done.
template <class T>
struct ReluOnNewContext {
  Cuda device;
  TwinBatch batch{{3, 0, 1, 7}};
  TwinState state;
  Layer<T, Cuda> layer;

  ReluOnNewContext()
      : layer(device, batch.rows(), 24, 136, 40, Activation::relu,
              [](Shape shape, unsigned seed) { return to_cuda<T>(normal_values<T>(shape.size(), seed, 0.4), shape); }) {
    cuda_device().synchronize();
    ops::linear_activation(device, layer.y.matrix(), layer.saved.matrix(), layer.x.matrix(),
                           std::as_const(layer.weight).matrix(), layer.bias.data(), Activation::relu, dropout(),
                           batch.device(), false);
  }
  [[nodiscard]] DropoutSpec dropout() { return {.probability = 0.1, .seed = 11, .site = 3, .state = state.device()}; }
  void backward() { layer.backward(device, Activation::relu, dropout(), batch.device()); }
  /// The bits of dpre, which is forgotten.
  [[nodiscard]] std::vector<std::uint8_t> result() {
    auto bits = bits_of(layer.dpre.to_host());
    device.fill_zero(layer.dpre.data(), layer.dpre.bytes());
    return bits;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("op::matmul: against the CPU in double", T, STORYLM_CUDA_DTYPES) {
  for (const MatmulFlags flags : all_flags) {
    for (const bool with_bias : {false, true}) {
      check_matmul<T, T>(24, 40, 32, 0, flags, with_bias);
      check_matmul<T, T>(7, 5, 33, 3, flags, with_bias);  // no row on a 16-byte boundary
      check_matmul<T, float>(9, 16, 65, 8, flags, with_bias);
    }
  }
}

TEST_CASE_TEMPLATE("op::matmul: nothing to add up, and nothing to compute", T, STORYLM_CUDA_DTYPES) {
  for (const MatmulFlags flags : all_flags) {
    for (const bool with_bias : {false, true}) {
      check_matmul<T, T>(3, 5, 0, 1, flags, with_bias);
      check_matmul<T, float>(3, 5, 0, 1, flags, with_bias);
      check_matmul<T, T>(0, 5, 8, 0, flags, with_bias);
      check_matmul<T, T>(3, 0, 8, 0, flags, with_bias);
    }
  }
}

TEST_CASE_TEMPLATE("op::linear_gradient: both gradients are added to", T, STORYLM_CUDA_DTYPES) {
  for (const auto& extents :
       {std::array<index_t, 3>{40, 24, 16}, {1, 8, 8}, {0, 8, 8}, {33, 7, 5}, {5, 0, 8}, {5, 8, 0}}) {
    const index_t tokens = extents[0];
    const index_t in = extents[1];
    const index_t out = extents[2];
    CAPTURE(tokens);
    CAPTURE(in);
    CAPTURE(out);
    const auto x = normal_values<T>(tokens * in, 1);
    const auto dy = normal_values<T>(tokens * out, 2);
    const auto dweight = normal_values<float>(out * in, 3);
    const auto dbias = normal_values<float>(out, 4);
    const auto cpu_x = to_cpu(x, {tokens, in});
    const auto cpu_dy = to_cpu(dy, {tokens, out});
    auto cpu_dweight = to_cpu(dweight, {out, in});
    auto cpu_dbias = to_cpu(dbias, {out});
    ops::linear_gradient(Cpu{}, cpu_dweight.matrix(), cpu_dbias.data(), cpu_dy.matrix(), cpu_x.matrix());
    const auto gpu_x = to_cuda<T>(x, {tokens, in});
    const auto gpu_dy = to_cuda<T>(dy, {tokens, out});
    const auto check = [&](const Cuda& device, bool with_bias) {
      auto gpu_dweight = to_cuda<float>(dweight, {out, in});
      auto gpu_dbias = to_cuda<float>(dbias, {out});
      cuda_device().synchronize();  // `device` may be another stream
      ops::linear_gradient(device, gpu_dweight.matrix(), with_bias ? gpu_dbias.data() : nullptr, gpu_dy.matrix(),
                           gpu_x.matrix());
      device.synchronize();
      check_close<float>("dweight", to_doubles(gpu_dweight), cpu_dweight.to_host());
      check_close<float>("dbias", to_doubles(gpu_dbias), with_bias ? cpu_dbias.to_host() : dbias);
    };
    check(cuda_device(), true);
    check(cuda_device(), false);
#if __has_include(<emulator/engine.hpp>)
    emulator::matmul_offer().no_epilogues = CUBLASLT_EPILOGUE_BGRADB;  // as a library that has no such product
    check(Cuda{}, true);
    emulator::matmul_offer().no_epilogues = 0;
#endif
  }
}

template <class T>
static void check_linear_activations(const Cuda& device) {
  for (const Activation activation : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf}) {
    for (const double probability : {0.0, 0.1}) {
      check_linear_activation<T>(device, activation, probability, true, false);
      check_linear_activation<T>(device, activation, probability, true, true);
    }
    check_linear_activation<T>(device, activation, 0.0, false, false);
  }
}

TEST_CASE_TEMPLATE("op::linear_activation: against the CPU in double", T, STORYLM_CUDA_DTYPES) {
  check_linear_activations<T>(cuda_device());
}

#if __has_include(<emulator/engine.hpp>)
TEST_CASE_TEMPLATE("op::linear_activation: on an older GPU, and without cuBLASLt's epilogues", T, STORYLM_CUDA_DTYPES) {
  emulator::properties().major = 8;
  check_linear_activations<T>(Cuda{});
  emulator::properties().major = 9;
  emulator::matmul_offer().no_epilogues = 128;  // none with auxiliary memory
  check_linear_activations<T>(Cuda{});
  emulator::matmul_offer().no_epilogues = 0;
}

TEST_CASE_TEMPLATE("op::linear_activation: with a cuBLASLt that does ReLU's backward otherwise", T,
                   STORYLM_CUDA_DTYPES) {
  for (const auto otherwise : {emulator::ReluBackward::highest_bit_first, emulator::ReluBackward::without_alpha}) {
    for (const int major : {8, 9}) {
      CAPTURE(static_cast<int>(otherwise));
      CAPTURE(major);
      emulator::properties().major = major;
      emulator::matmul_offer().relu_backward = otherwise;
      const Cuda device;
      check_linear_activations<T>(device);
      CHECK(!device.service<cuda::ReluBackwardCheck<T>>().as_written());
      emulator::matmul_offer().relu_backward = {};
    }
  }
  emulator::properties().major = 9;
}

TEST_CASE_TEMPLATE("op::linear_activation: what a ReLU's backward costs", T, STORYLM_CUDA_DTYPES) {
  const auto check = [](ReluOnNewContext<T>& relu, std::uint64_t products_now, std::uint64_t launches_now) {
    relu.device.synchronize();  // launches count when they are done
    const std::uint64_t products = emulator::matmul_offer().products;
    const std::uint64_t launches = emulator::launches();
    relu.backward();
    relu.device.synchronize();
    CHECK(emulator::matmul_offer().products - products == products_now);
    CHECK(emulator::launches() - launches == launches_now);
  };
  ReluOnNewContext<T> usual;
  check(usual, 2, 0);  // the first tries it out
  check(usual, 1, 0);
  CHECK(usual.device.template service<cuda::ReluBackwardCheck<T>>().as_written());

  emulator::matmul_offer().relu_backward = emulator::ReluBackward::highest_bit_first;
  ReluOnNewContext<T> otherwise;
  check(otherwise, 2, 1);
  check(otherwise, 1, 1);
  emulator::matmul_offer().relu_backward = {};
  check(otherwise, 1, 1);  // once and for all
}
#endif

TEST_CASE_TEMPLATE("op::linear_activation: a ReLU's first backward cannot be recorded, and later ones do the same", T,
                   STORYLM_CUDA_DTYPES) {
  const auto check = [] {
    ReluOnNewContext<T> relu;
    STORYLM_CUDA_CHECK(cudaStreamBeginCapture(relu.device.stream(), cudaStreamCaptureModeThreadLocal));
    CHECK_THROWS_WITH_AS(relu.backward(), doctest::Contains("first backward of a ReLU"), CudaError);
    cudaGraph_t graph{};
    STORYLM_CUDA_CHECK(cudaStreamEndCapture(relu.device.stream(), &graph));
    STORYLM_CUDA_CHECK(cudaGraphDestroy(graph));
    relu.backward();
    const auto expected = relu.result();
    Cuda::Recording recording;  // by itself and on another context too
    ReluOnNewContext<T> recorded;
    for (int i = 0; i < 4; ++i) {
      recording.run(recorded.device, [&] { recorded.backward(); });
      CHECK(recorded.result() == expected);
    }
    CHECK(recording.recorded());
  };
  check();
#if __has_include(<emulator/engine.hpp>)
  emulator::matmul_offer().relu_backward = emulator::ReluBackward::highest_bit_first;
  check();
  emulator::matmul_offer().relu_backward = {};
#endif
}

TEST_CASE("op::linear_activation: a ReLU's bits, ours and cuBLASLt's, lie the same way") {
  // Ours are written where dropout is on, and read by cuBLASLt: so the two must agree on a real GPU above all.
  const index_t rows = 9;
  const index_t width = 200;
  const index_t in = 16;
  const auto x = to_cuda<bf16>(normal_values<bf16>(rows * in, 1), {rows, in});
  const auto weight = to_cuda<bf16>(normal_values<bf16>(width * in, 2), {width, in});
  const index_t columns = ops::linear_activation_saved<Cuda, bf16>(Activation::relu, width);
  Tensor<bf16, Cuda> theirs({rows, columns}, cuda_device());
  auto y = poisoned<bf16>({rows, width});
  REQUIRE(cuda::Gemm<bf16, bf16, bf16, cuda::epilogue::ReluBits, cuda::Transpose::no, cuda::Transpose::yes>::try_run(
      cuda_device(), y.matrix(), x.matrix(), weight.matrix(), {.aux = theirs.data(), .stride_aux = columns * 16}));
  Tensor<bf16, Cuda> ours({rows, columns}, cuda_device());
  auto z = poisoned<bf16>({rows, width});
  ops::linear_activation(cuda_device(), z.matrix(), ours.matrix(), x.matrix(), weight.matrix(), nullptr,
                         Activation::relu, {}, {}, true);
  CHECK(cuda_device().service<cuda::ReluBackwardCheck<bf16>>().as_written());
  CHECK(cuda_device().service<cuda::ReluBackwardCheck<storylm::half>>().as_written());
  const auto a = bits_of(theirs.to_host());
  const auto b = bits_of(ours.to_host());
  const auto values = to_doubles(z);
  const auto row_bytes = static_cast<std::size_t>(columns) * 2;
  int compared = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t r = i / static_cast<std::size_t>(width);
    const std::size_t c = i % static_cast<std::size_t>(width);
    const auto bit = [&](const std::vector<std::uint8_t>& bytes) {
      return bytes[r * row_bytes + c / 8] >> (c % 8) & 1;
    };
    CHECK(bit(a) == bit(b));
    CHECK(bit(b) == (values[i] > 0.0 ? 1 : 0));
    ++compared;
  }
  CHECK(compared == rows * width);
}

TEST_CASE("op::peak_flops: a rate") { CHECK(ops::peak_flops<float>(cuda_device()) > 1e6); }
