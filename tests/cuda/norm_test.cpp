// SPDX-License-Identifier: MIT
/// @file
/// @brief op::layer_norm and op::rms_norm on CUDA against the CPU in double.
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/cuda/layer_norm.hpp>
#include <storylm/kernels/cuda/rms_norm.hpp>

#include "rows_support.hpp"

namespace {
using namespace storylm;
using namespace storylm::test;

constexpr double eps = 1e-5;

/// Where backward writes dsum.
enum class Dsum { own, over_dy, over_plus };

/// One use of a norm.
struct Use {
  index_t rows = 0;  ///< of sequences; more belong to the tail
  index_t width = 0;
  bool branch = true;
  bool bias = true;
  bool plus = true;
  bool dbranch = true;
  double dropout = 0.0;
  Layout layout = dense;
  Dsum dsum = Dsum::own;
  double mean = 0.0;  ///< of the rows
  index_t tail = 3;

  [[nodiscard]] std::string text() const {
    return std::to_string(rows) + " x " + std::to_string(width) + (branch ? " branch" : "") + (bias ? " bias" : "") +
           (plus ? " plus" : "") + (dbranch ? " dbranch" : "") + " dropout " + std::to_string(dropout) + " gap " +
           std::to_string(layout.gap) + " dsum " + std::to_string(static_cast<int>(dsum)) + " mean " +
           std::to_string(mean);
  }
};

/// The inputs of a use, as T holds them.
template <class T>
struct Inputs {
  explicit Inputs(const Use& use) {
    const index_t size = (use.rows + use.tail) * use.width;
    residual = normal_values<T>(size, 1);
    for (double& v : residual) v = rounded<T>(v + use.mean);
    branch = normal_values<T>(size, 2);
    dy = normal_values<T>(size, 3);
    plus = normal_values<T>(size, 4);
    weight = normal_values<T>(use.width, 5);
    bias = normal_values<T>(use.width, 6);
    dweight = normal_values<float>(use.width, 7);
    dbias = normal_values<float>(use.width, 8);
  }
  std::vector<double> residual, branch, dy, plus, weight, bias, dweight, dbias;
};

/// What a norm leaves on the GPU.
template <class T>
struct Results {
  Rows<T> y, sum, dsum, dbranch;
  Rows<float> stats, dweight, dbias;

  [[nodiscard]] std::vector<std::uint8_t> bits() const {
    std::vector<std::uint8_t> all = y.bits();
    append(all, sum.bits());
    append(all, dsum.bits());
    append(all, dbranch.bits());
    append(all, stats.bits());
    append(all, dweight.bits());
    append(all, dbias.bits());
    return all;
  }
};

/// Forward, then backward with what it left.
template <class Op, class T>
Results<T> run(const Use& use, const RowsBatch& batch, const TwinDropout& dropout) {
  const Cuda& device = cuda_device();
  const Inputs<T> in(use);
  const index_t rows = batch.rows();
  Rows<T> residual(rows, use.width, in.residual, use.layout);
  Rows<T> branch(rows, use.width, in.branch, use.layout);
  Rows<T> dy(rows, use.width, in.dy, use.layout);
  Rows<T> plus(rows, use.width, in.plus, use.layout);
  Rows<T> weight(1, use.width, in.weight);
  Rows<T> bias(1, use.width, in.bias);
  Results<T> out{.y = {rows, use.width, use.layout},
                 .sum = {rows, use.width, use.layout},
                 .dsum = {rows, use.width, use.layout},
                 .dbranch = {rows, use.width, use.layout},
                 .stats = {rows, 2, Layout{.gap = use.layout.gap}},
                 .dweight = {1, use.width, in.dweight},
                 .dbias = {1, use.width, in.dbias}};
  const PackedView view = dropout.device.active() ? batch.device() : PackedView{};
  kernel<Op, Cuda, T>::run(device, out.y.view(), use.branch ? out.sum.view() : MatrixView<T>{}, out.stats.view(),
                           residual.view(), use.branch ? branch.view() : MatrixView<T>{}, weight.view().data,
                           use.bias ? bias.view().data : nullptr, eps, dropout.device, view);
  Rows<T>& dsum = use.dsum == Dsum::own ? out.dsum : use.dsum == Dsum::over_dy ? dy : plus;
  kernel<Op, Cuda, T>::backward(device, dsum.view(), use.dbranch ? out.dbranch.view() : MatrixView<T>{},
                                out.dweight.view().data, use.bias ? out.dbias.view().data : nullptr, dy.view(),
                                use.branch ? out.sum.view() : residual.view(), out.stats.view(), weight.view().data,
                                use.plus ? plus.view() : MatrixView<T>{}, dropout.device, view);
  if (!use.branch) out.sum = std::move(residual);
  if (use.dsum != Dsum::own) out.dsum = std::move(dsum);
  return out;
}

/// Against the CPU kernels: the sum, then the norm of the sum as it was rounded, then backward.
template <class Op, class T>
void check(const Use& use) {
  CAPTURE(use.text());
  const RowsBatch batch(use.rows, use.tail);
  const TwinDropout dropout(use.dropout);
  const Results<T> out = run<Op, T>(use, batch, dropout);
  const Inputs<T> in(use);
  const Cpu cpu({.threads = 1});
  const index_t rows = batch.rows();
  const index_t width = use.width;
  const auto view = [&](std::vector<double>& values) { return MatrixView<double>(values.data(), rows, width); };
  using Reference = kernel<Op, Cpu, double>;

  auto residual = in.residual;
  auto branch = in.branch;
  auto weight = in.weight;
  auto bias = in.bias;
  auto dy = in.dy;
  auto plus = in.plus;
  auto dweight = in.dweight;
  auto dbias = in.dbias;
  std::vector<double> y(residual.size());
  std::vector<double> sum(residual.size());
  std::vector<double> stats(static_cast<std::size_t>(2 * rows));
  if (use.branch) {
    on_host(batch, dropout.host, [&](index_t first, index_t n, const DropoutSpec& spec, const PackedView& packed) {
      Reference::run(cpu, view(y).slice_rows(first, n), view(sum).slice_rows(first, n),
                     MatrixView<double>(stats.data() + 2 * first, n, 2), view(residual).slice_rows(first, n),
                     view(branch).slice_rows(first, n), weight.data(), bias.data(), eps, spec, packed);
    });
    check_rounded<T>("sum", out.sum.values(), sum, 2e-7);
  }
  // From here on with the sum that is stored.
  sum = out.sum.values();
  Reference::run(cpu, view(y), {}, MatrixView<double>(stats.data(), rows, 2), view(sum), {}, weight.data(),
                 use.bias ? bias.data() : nullptr, eps, {}, {});
  const double slack = 2e-6 + 2e-7 * std::abs(use.mean);  // a mean is rounded to float
  check_rounded<T>("y", out.y.values(), y, slack);
  check_rounded<float>("stats", out.stats.values(), stats, 1e-6);

  std::vector<double> dsum(residual.size());
  std::vector<double> dbranch(residual.size());
  const auto backward = [&](index_t first, index_t n, const DropoutSpec& spec, const PackedView& packed) {
    Reference::backward(cpu, view(dsum).slice_rows(first, n),
                        use.dbranch ? view(dbranch).slice_rows(first, n) : MatrixView<double>{}, dweight.data(),
                        use.bias ? dbias.data() : nullptr, view(dy).slice_rows(first, n),
                        view(sum).slice_rows(first, n), MatrixView<double>(stats.data() + 2 * first, n, 2),
                        weight.data(), use.plus ? view(plus).slice_rows(first, n) : MatrixView<double>{}, spec, packed);
  };
  on_host(batch, dropout.host, backward);
  check_rounded<T>("dsum", out.dsum.values(), dsum, slack);
  if (use.dbranch) check_rounded<T>("dbranch", out.dbranch.values(), dbranch, slack);
  check_rounded<float>("dweight", out.dweight.values(), dweight, slack);
  check_rounded<float>("dbias", out.dbias.values(), dbias, slack);
  CHECK(out.y.gaps_untouched());
  CHECK(out.sum.gaps_untouched());
  CHECK(out.dsum.gaps_untouched());
  CHECK(out.dbranch.gaps_untouched());
  CHECK(out.stats.gaps_untouched());
}

/// A row alone gives the bits it gives among others.
template <class Op, class T>
void check_row_alone(index_t width) {
  const Use use{.rows = 12, .width = width, .branch = false, .plus = false, .dbranch = false, .tail = 0};
  const Inputs<T> in(use);
  const RowsBatch batch(use.rows, 0);
  const std::vector<double> all = run<Op, T>(use, batch, TwinDropout(0.0)).y.values();
  Rows<T> weight(1, width, in.weight);
  Rows<T> bias(1, width, in.bias);
  for (const index_t row : {0, 7, 11}) {
    const auto begin = in.residual.begin() + row * width;
    Rows<T> residual(1, width, std::vector<double>(begin, begin + width));
    Rows<T> y(1, width);
    Rows<float> stats(1, 2);
    kernel<Op, Cuda, T>::run(cuda_device(), y.view(), {}, stats.view(), residual.view(), {}, weight.view().data,
                             bias.view().data, eps, {}, {});
    CHECK(y.values() == std::vector<double>(all.begin() + row * width, all.begin() + (row + 1) * width));
  }
}

template <class Op, class T>
void check_all() {
  [[maybe_unused]] unsigned schedule = 0;
  const auto check_use = [&](const Use& use) {
#if __has_include(<emulator/engine.hpp>)
    emulator::set_seed(++schedule);
#endif
    Use each = use;
    if (std::is_same_v<Op, op::rms_norm>) each.bias = false;
    check<Op, T>(each);
  };
  // Every combination of what may be there, in registers and for any width.
  for (unsigned bits = 0; bits < 32; ++bits) {
    const bool branch = (bits & 1U) != 0;
    check_use({.rows = 9,
               .width = bits % 3 == 0 ? 20 : 64,
               .branch = branch,
               .bias = (bits & 2U) != 0,
               .plus = (bits & 4U) != 0,
               .dbranch = (bits & 8U) != 0,
               .dropout = (bits & 16U) != 0 ? 0.1 : 0.0});
  }
  for (const index_t rows : {0, 1, 31, 33, 65, 300}) {
    check_use({.rows = rows, .width = 40, .dropout = 0.1, .tail = rows == 0 ? 0 : 3});
    check_use({.rows = rows, .width = 20, .dropout = 0.1, .tail = rows == 0 ? 0 : 3});
  }
  // Widths of every kernel, and just below and above.
  for (const index_t width : {8, 20, 32, 64, 256, 264, 512, 520, 768, 776, 1000, 1024, 1600, 2048, 2056}) {
    check_use({.rows = 18, .width = width, .dropout = width % 3 == 0 ? 0.0 : 0.1});
  }
  check_use({.rows = 300, .width = 512, .dropout = 0.1});
  for (const Layout layout : {spaced, skewed}) {
    for (const index_t width : {32, 100, 520}) {
      check_use({.rows = 10, .width = width, .dropout = 0.1, .layout = layout});
    }
  }
  for (const Dsum dsum : {Dsum::over_dy, Dsum::over_plus}) {
    for (const index_t width : {33, 512, 1048}) {
      check_use({.rows = 20, .width = width, .dropout = 0.1, .dsum = dsum});
    }
  }
  check_use({.rows = 20, .width = 512, .plus = false, .dsum = Dsum::over_dy});
  check_use({.rows = 5, .width = 64, .tail = 40});
}

/// Rows far from zero: what is squared must be the deviations, not the values.
template <class Op, class T>
void check_large_means() {
  for (const index_t width : {64, 100, 520}) {
    check<Op, T>({.rows = 9, .width = width, .mean = std::is_same_v<T, float> ? 1000.0 : 30.0});
  }
}

template <class Op, class T>
void check_bits() {
  for (const Use& use : {Use{.rows = 200, .width = 64, .dropout = 0.1}, Use{.rows = 70, .width = 20, .dropout = 0.1},
                         Use{.rows = 20, .width = 1600}}) {
    const RowsBatch batch(use.rows, use.tail);
    const TwinDropout dropout(use.dropout);
    Use each = use;
    if (std::is_same_v<Op, op::rms_norm>) each.bias = false;
    check_same_bits_always([&] { return run<Op, T>(each, batch, dropout).bits(); });
  }
  for (const index_t width : {20, 64, 1600}) check_row_alone<Op, T>(width);
}

}  // namespace

TEST_CASE_TEMPLATE("layer_norm agrees with the CPU in double", T, STORYLM_CUDA_DTYPES) {
  check_all<op::layer_norm, T>();
}
TEST_CASE_TEMPLATE("rms_norm agrees with the CPU in double", T, STORYLM_CUDA_DTYPES) { check_all<op::rms_norm, T>(); }

TEST_CASE_TEMPLATE("layer_norm of rows far from zero", T, STORYLM_CUDA_DTYPES) {
  check_large_means<op::layer_norm, T>();
}

TEST_CASE_TEMPLATE("norms give the same bits in any order of the threads", T, STORYLM_CUDA_DTYPES) {
  check_bits<op::layer_norm, T>();
  check_bits<op::rms_norm, T>();
}

TEST_CASE("norms of more rows than there are warps") {
  for (const index_t width : {8, 12}) {
    check<op::layer_norm, bf16>({.rows = 16400, .width = width, .dropout = 0.1, .tail = 5});
  }
}
