// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Single operations against PyTorch, forward and gradients: every case of reference/ops.safetensors.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/positions.hpp>
#include <storylm/ops/activation.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/ops/cross_entropy.hpp>
#include <storylm/ops/embedding.hpp>
#include <storylm/ops/layer_norm.hpp>
#include <storylm/ops/rms_norm.hpp>
#include <storylm/ops/rope.hpp>
#include <storylm/ops/swiglu.hpp>

#include "reference_support.hpp"
#include "support.hpp"

using namespace storylm;
using test::ReferenceFile;

namespace {

const ReferenceFile& file() {
  static const ReferenceFile reference("ops.safetensors");
  return reference;
}

/// What was compared so far, so that no case of the file is forgotten.
std::set<std::string>& compared() {
  static std::set<std::string> cases;
  return cases;
}

/// One case in one dtype.
template <class T>
class Case {
 public:
  explicit Case(std::string name) : name_(std::move(name)) {
    if (sizeof(T) == 4) compared().insert(name_);
  }
  /// Of results and gradients, relative to the largest element.
  static constexpr double tolerance = sizeof(T) == 8 ? 1e-12 : 1e-5;
  static constexpr double gradient_tolerance = sizeof(T) == 8 ? 1e-11 : 1e-4;

  /// An input, or the gradient that backward is given.
  [[nodiscard]] std::vector<T> input(const std::string& what) const { return file().read<T>(name_ + '.' + what); }
  /// A result of PyTorch in this dtype.
  [[nodiscard]] std::vector<T> result(const std::string& what) const {
    return file().read<T>(name_ + '.' + what + ReferenceFile::suffix<T>());
  }
  void compare(const std::string& what, const std::vector<T>& ours, double limit) const {
    CAPTURE(name_);
    CAPTURE(what);
    CHECK(test::relative_difference(ours, result(what)) <= limit);
  }
  [[nodiscard]] double option(const std::string& what) const { return test::option(file().options(name_), what, NAN); }

 private:
  std::string name_;
};

template <class T>
MatrixView<T> matrix(std::vector<T>& values, index_t rows) {
  return {values.data(), rows, static_cast<index_t>(values.size()) / rows};
}
template <class T>
MatrixView<const T> matrix(const std::vector<T>& values, index_t rows) {
  return {values.data(), rows, static_cast<index_t>(values.size()) / rows};
}
/// Memory for a result: NaN, so that what is not written is found out.
template <class T>
std::vector<T> unset(std::size_t size) {
  return std::vector<T>(size, std::numeric_limits<T>::quiet_NaN());
}

template <class T>
void compare_norm(const std::string& name, bool layer, double tolerance) {
  const Case<T> reference(name);
  const Cpu cpu;
  const auto x = reference.input("x");
  const auto dy = reference.input("dy");
  const auto weight = reference.input("weight");
  const auto bias = layer ? reference.input("bias") : std::vector<T>{};
  const auto rows = static_cast<index_t>(x.size() / weight.size());
  auto y = unset<T>(x.size());
  auto dx = unset<T>(x.size());
  auto stats = unset<T>(static_cast<std::size_t>(2 * rows));
  std::vector<T> dweight(weight.size());  // parameters' gradients are added to
  std::vector<T> dbias(bias.size());
  const double eps = reference.option("norm_eps");
  const auto stats_view = matrix(std::as_const(stats), rows);
  if (layer) {
    ops::layer_norm(cpu, matrix(y, rows), {}, matrix(stats, rows), matrix(x, rows), {}, matrix(weight, 1),
                    matrix(bias, 1), eps);
    ops::layer_norm_backward(cpu, matrix(dx, rows), {}, matrix(dweight, 1), matrix(dbias, 1), matrix(dy, rows),
                             matrix(x, rows), stats_view, matrix(weight, 1), {});
    reference.compare("dbias", dbias, Case<T>::gradient_tolerance);
  } else {
    ops::rms_norm(cpu, matrix(y, rows), {}, matrix(stats, rows), matrix(x, rows), {}, matrix(weight, 1), eps);
    ops::rms_norm_backward(cpu, matrix(dx, rows), {}, matrix(dweight, 1), matrix(dy, rows), matrix(x, rows), stats_view,
                           matrix(weight, 1), {});
  }
  reference.compare("y", y, tolerance);
  reference.compare("dx", dx, Case<T>::gradient_tolerance);
  reference.compare("dweight", dweight, Case<T>::gradient_tolerance);
}

template <class T>
void compare_activation(const std::string& name, Activation function) {
  const Case<T> reference(name);
  const Cpu cpu;
  const auto x = reference.input("x");
  const auto dy = reference.input("dy");
  auto y = unset<T>(x.size());
  auto dx = unset<T>(x.size());
  ops::activation(cpu, matrix(y, 1), matrix(x, 1), function);
  ops::activation_backward(cpu, matrix(dx, 1), matrix(dy, 1), matrix(x, 1), matrix(std::as_const(y), 1), function);
  reference.compare("y", y, Case<T>::tolerance);
  reference.compare("dx", dx, Case<T>::gradient_tolerance);
}

/// gate and up, and what belongs to them, lie behind one another in a row.
template <class T>
std::vector<T> joined(const std::vector<T>& gate, const std::vector<T>& up) {
  std::vector<T> both = gate;
  both.insert(both.end(), up.begin(), up.end());
  return both;
}
template <class T>
void compare_swiglu() {
  const Case<T> reference("swiglu");
  const Cpu cpu;
  const auto gate_up = joined(reference.input("gate"), reference.input("up"));
  const auto dy = reference.input("dy");
  auto y = unset<T>(dy.size());
  auto dgate_up = unset<T>(gate_up.size());
  ops::swiglu(cpu, matrix(y, 1), matrix(gate_up, 1));
  ops::swiglu_backward(cpu, matrix(dgate_up, 1), matrix(dy, 1), matrix(gate_up, 1));
  reference.compare("y", y, Case<T>::tolerance);
  const std::vector<T> dgate(dgate_up.begin(), dgate_up.begin() + static_cast<std::ptrdiff_t>(dy.size()));
  const std::vector<T> dup(dgate_up.begin() + static_cast<std::ptrdiff_t>(dy.size()), dgate_up.end());
  reference.compare("dgate", dgate, Case<T>::gradient_tolerance);
  reference.compare("dup", dup, Case<T>::gradient_tolerance);
}
/// silu is SwiGLU with an up of one.
template <class T>
void compare_silu() {
  const Case<T> reference("silu");
  const Cpu cpu;
  const auto x = reference.input("x");
  const auto dy = reference.input("dy");
  const auto gate_up = joined(x, std::vector<T>(x.size(), T{1}));
  auto y = unset<T>(x.size());
  auto dgate_up = unset<T>(gate_up.size());
  ops::swiglu(cpu, matrix(y, 1), matrix(gate_up, 1));
  ops::swiglu_backward(cpu, matrix(dgate_up, 1), matrix(dy, 1), matrix(gate_up, 1));
  dgate_up.resize(x.size());
  reference.compare("y", y, Case<T>::tolerance);
  reference.compare("dx", dgate_up, Case<T>::gradient_tolerance);
}

/// Rows of [q | k | v], as attention takes and gives them.
template <class T>
std::vector<T> joined_rows(const std::vector<std::vector<T>>& parts, std::size_t rows) {
  std::vector<T> all;
  for (std::size_t r = 0; r < rows; ++r)
    for (const auto& part : parts) {
      const auto width = static_cast<std::ptrdiff_t>(part.size() / rows);
      const auto first = part.begin() + static_cast<std::ptrdiff_t>(r) * width;
      all.insert(all.end(), first, first + width);
    }
  return all;
}

template <class T>
void compare_attention(const std::string& name) {
  const Case<T> reference(name);
  const Cpu cpu;
  const auto whole = [&](const char* what) { return static_cast<index_t>(reference.option(what)); };
  const AttentionSpec spec{.heads = whole("n_heads"),
                           .kv_heads = whole("n_kv_heads"),
                           .head_dim = whole("head_dim"),
                           .window = whole("sliding_window")};
  const auto offsets = file().read<std::int32_t>("attention_offsets");
  std::vector<index_t> lengths;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) lengths.push_back(offsets[s + 1] - offsets[s]);
  const Packed<Cpu> batch = test::packed(lengths, 10);
  const index_t rows = batch.tokens();
  const auto count = static_cast<std::size_t>(rows);
  const auto qkv = joined_rows<T>({reference.input("q"), reference.input("k"), reference.input("v")}, count);
  const auto dy = reference.input("dy");
  auto y = unset<T>(dy.size());
  auto lse = unset<T>(count * static_cast<std::size_t>(spec.heads));
  auto dqkv = unset<T>(qkv.size());
  ops::attention(cpu, matrix(y, rows), matrix(lse, rows), matrix(qkv, rows), spec, {}, batch.view());
  ops::attention_backward(cpu, matrix(dqkv, rows), matrix(dy, rows), matrix(std::as_const(y), rows),
                          matrix(std::as_const(lse), rows), matrix(qkv, rows), spec, {}, batch.view());
  reference.compare("y", y, Case<T>::tolerance);
  const auto expected = joined_rows<T>({reference.result("dq"), reference.result("dk"), reference.result("dv")}, count);
  CAPTURE(name);
  CHECK(test::relative_difference(dqkv, expected) <= Case<T>::gradient_tolerance);
}

template <class T>
void compare_cross_entropy() {
  const Case<T> reference("cross_entropy");
  const Cpu cpu;
  auto logits = reference.input("logits");
  auto targets = file().read<std::int32_t>("cross_entropy.targets");
  const auto ignored = static_cast<std::int32_t>(reference.option("ignore_index"));
  double counted = 0.0;
  for (auto& target : targets) {
    if (target == ignored) target = no_target;
    counted += target != no_target;
  }
  CHECK(counted < static_cast<double>(targets.size()));
  auto losses = unset<T>(targets.size());
  const auto rows = static_cast<index_t>(targets.size());
  ops::cross_entropy(cpu, std::span<T>(losses), matrix(logits, rows), std::span<const token_t>(targets), true);
  double sum = 0.0;
  for (const T loss : losses) sum += static_cast<double>(loss);
  for (auto& gradient : logits) gradient /= static_cast<T>(counted);  // PyTorch's is that of the mean
  reference.compare("loss", {static_cast<T>(sum / counted)}, Case<T>::tolerance);
  reference.compare("dlogits", logits, Case<T>::gradient_tolerance);
}

template <class T>
void compare_embedding() {
  const Case<T> reference("embedding");
  const Cpu cpu;
  const auto table = reference.input("weight");
  const auto dy = reference.input("dy");
  const auto ids = file().read<std::int32_t>("embedding.ids");
  Packed<Cpu> batch({.tokens = 16, .sequences = 1, .longest = 16}, cpu);
  batch.append(ids, {}, 0);
  const index_t rows = batch.tokens();
  const index_t vocab_size = file().shape("embedding.weight")[0];
  auto y = unset<T>(dy.size());
  std::vector<T> dtable(table.size());
  ops::embedding(cpu, matrix(y, rows), matrix(table, vocab_size), {}, 1.0, {}, batch.view());
  ops::embedding_backward(cpu, matrix(dtable, vocab_size), {}, matrix(dy, rows), 1.0, {}, batch.view());
  reference.compare("y", y, 0.0);
  reference.compare("dweight", dtable, Case<T>::gradient_tolerance);
}

/// The case has two heads: one is the query here, one the key; both are turned alike, the value stays.
template <class T>
void compare_rope(const std::string& name, RopeLayout layout, double tolerance) {
  const Case<T> reference(name);
  const Cpu cpu;
  const auto positions = file().read<std::int32_t>("rope_positions");
  const auto count = positions.size();
  Packed<Cpu> batch({.tokens = 16, .sequences = 16, .longest = 1}, cpu);
  for (std::size_t i = 0; i < count; ++i)
    batch.append(std::vector<token_t>{0}, {}, static_cast<std::uint32_t>(i), positions[i]);
  const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = 8};
  const index_t rows = batch.tokens();
  const double theta = reference.option("rope_theta");
  const std::vector<T> value(count * 8, T{3});
  auto qkv = joined_rows<T>({reference.input("x"), value}, count);
  auto dqkv = joined_rows<T>({reference.input("dy"), value}, count);
  ops::rope(cpu, matrix(qkv, rows), spec, theta, layout, batch.view());
  ops::rope_backward(cpu, matrix(dqkv, rows), spec, theta, layout, batch.view());
  CAPTURE(name);
  CHECK(test::relative_difference(qkv, joined_rows<T>({reference.result("y"), value}, count)) <= tolerance);
  CHECK(test::relative_difference(dqkv, joined_rows<T>({reference.result("dx"), value}, count)) <= tolerance);
}

}  // namespace

TEST_CASE_TEMPLATE("norms are PyTorch's", T, float, double) {
  compare_norm<T>("layer_norm", true, Case<T>::tolerance);
  compare_norm<T>("rms_norm", false, Case<T>::tolerance);
  // Its inputs lie about 20: that alone costs float a factor of 20.
  compare_norm<T>("layer_norm_shifted", true, sizeof(T) == 8 ? 1e-12 : 2e-5);
}

TEST_CASE_TEMPLATE("activations are PyTorch's, at zero and far out too", T, float, double) {
  compare_activation<T>("relu", Activation::relu);
  compare_activation<T>("gelu_erf", Activation::gelu_erf);
  compare_activation<T>("gelu_tanh", Activation::gelu_tanh);
  compare_silu<T>();
  compare_swiglu<T>();
}

TEST_CASE_TEMPLATE("attention is PyTorch's: grouped queries, windows, packed sequences", T, float, double) {
  for (const char* name : {"attention", "attention_grouped", "attention_window", "attention_grouped_window"})
    compare_attention<T>(name);
}

TEST_CASE_TEMPLATE("cross entropy is PyTorch's mean over the targets that are not ignored", T, float, double) {
  compare_cross_entropy<T>();
}

TEST_CASE_TEMPLATE("embedding is PyTorch's, gradients of repeated ids add up", T, float, double) {
  compare_embedding<T>();
}

// In float an angle of 1000 radians is itself rounded to 3e-5, and the file's angles are computed in double.
TEST_CASE_TEMPLATE("rotary positions up to 1000: 1e-4 in float, 1e-9 in double", T, float, double) {
  compare_rope<T>("rope_half", RopeLayout::half_split, sizeof(T) == 8 ? 1e-9 : 1e-4);
  compare_rope<T>("rope_interleaved", RopeLayout::interleaved, sizeof(T) == 8 ? 1e-9 : 1e-4);
}

TEST_CASE("the table of sinusoidal positions") {
  const auto expected = file().read<double>("sinusoidal64");
  const Shape shape = file().shape("sinusoidal64");
  const Cpu cpu;
  CHECK(test::relative_difference(nn::sinusoidal_positions<double>(shape[0], shape[1], cpu).to_host(), expected) <=
        1e-13);
  CHECK(test::relative_difference(nn::sinusoidal_positions<float>(shape[0], shape[1], cpu).to_host(), expected) <=
        1e-7);
}

TEST_CASE("no case of the file was left out") {
  for (const auto& entry : file().cases()) {
    const std::string name(entry.key());
    CAPTURE(name);
    CHECK(compared().contains(name));
  }
  CHECK(file().cases().size() == 16);
}
