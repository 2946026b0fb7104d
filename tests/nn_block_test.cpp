// SPDX-License-Identifier: MIT
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/block.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;
using Values = std::vector<double>;

constexpr index_t width = 6;

/// Sites differ, so that masks applied in one another's place are seen.
nn::BlockOptions options(bool pre_norm, double dropout) {
  return {.attention = {.width = width,
                        .spec = {.heads = 2, .kv_heads = 1, .head_dim = 4},
                        .rope = nn::RopeOptions{.theta = 100.0},
                        .dropout = {dropout, 21}},
          .feed_forward = {.width = width, .hidden = 9, .activation = Activation::gelu_erf, .dropout = {dropout, 22}},
          .norm = {.width = width},
          .pre_norm = pre_norm,
          .attention_branch = {dropout, 23},
          .feed_forward_branch = {dropout, 24}};
}

Values sum(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

/// A block, a stream into it, and weights of what comes out: loss = <wr, residual> + <wb, branch>.
template <template <class, class> class Norm, template <class, class> class FeedForward>
struct Setting {
  using Block = nn::Block<double, Cpu, Norm, FeedForward>;

  Setting(const test::TrainingPass& t, bool pre, bool with_branch, double dropout)
      : training(t),
        pre_norm(pre),
        branched(with_branch),
        probability(dropout),
        block(options(pre, dropout)),
        store(nn::allocate<double>(block, t.cpu, nn::Gradients::yes)),
        cache(block.make_cache(t.cpu, t.capacity())),
        residual(test::random<Case>({t.tokens(), width}, 1, t.cpu)),
        branch(test::random<Case>({t.tokens(), width}, 2, t.cpu)),
        wr(test::random<Case>({t.tokens(), width}, 3, t.cpu)),
        wb(test::random<Case>({t.tokens(), width}, 4, t.cpu)) {
    test::randomise(block, 0.6);
  }

  [[nodiscard]] nn::ResidualStream<const double> stream() const {
    return {residual.matrix(), branched ? branch.matrix() : MatrixView<const double>{}, {probability, 25}};
  }
  [[nodiscard]] Values rows(MatrixView<const double> m) const { return test::rows_to_host(m, training.cpu); }
  double loss() {
    const auto out = block.forward(stream(), training.pass, cache);
    CHECK(static_cast<bool>(out.branch) == pre_norm);
    const double branch_part = out.branch ? test::weighted_sum(rows(out.branch), wb.to_host()) : 0.0;
    return test::weighted_sum(rows(out.residual), wr.to_host()) + branch_part;
  }
  /// Gradients of the stream's two parts. What is not given lies in memory full of NaN.
  std::pair<Values, Values> backward() {
    static_cast<void>(loss());
    auto dresidual = wr.clone();
    auto dbranch =
        pre_norm ? wb.clone()
                 : Case::tensor::from_host(wb.shape(), Values(static_cast<std::size_t>(wb.size()), NAN), training.cpu);
    block.backward(stream(), {dresidual.matrix(), dbranch.matrix(), {}}, training.pass, cache);
    return {dresidual.to_host(), dbranch.to_host()};
  }

  const test::TrainingPass& training;
  bool pre_norm, branched;
  double probability;
  Block block;
  nn::ParameterStore<double, Cpu> store;
  typename Block::Cache cache;
  Tensor<double, Cpu> residual, branch, wr, wb;  // (tokens, width)
};

/// The same block one layer at a time: norms that add nothing, masks and sums element by element.
template <class S>
struct Unfused {
  explicit Unfused(S& setting) : s(setting), cache(s.block.make_cache(s.training.cpu, s.training.capacity())) {}

  Case::tensor tensor(const Values& values) {
    return Case::tensor::from_host({s.training.tokens(), width}, values, s.training.cpu);
  }
  Values dropped(const Values& values, nn::Dropout dropout) {
    return test::dropped(values, width, dropout, s.training.pass);
  }
  template <class L, class C>
  Values forward(L& layer, const Values& x, C& layer_cache) {
    const auto input = tensor(x);
    return s.rows(layer.forward(input.matrix(), s.training.pass, layer_cache));
  }
  template <class L, class C>
  Values backward(L& layer, const Values& x, const Values& dy, C& layer_cache) {
    const auto input = tensor(x);
    auto d = tensor(dy);
    Tensor<double, Cpu> dx({s.training.tokens(), width}, s.training.cpu);
    layer.backward(input.matrix(), d.matrix(), dx.matrix(), s.training.pass, layer_cache);
    return dx.to_host();
  }
  template <class N, class C>
  Values normed(N& norm, const Values& x, C& norm_cache) {
    const auto input = tensor(x);
    return s.rows(norm.forward({input.matrix(), {}, {}}, s.training.pass, norm_cache));
  }
  template <class N, class C>
  Values normed_backward(N& norm, const Values& x, const Values& dy, C& norm_cache) {
    const auto input = tensor(x);
    const auto d = tensor(dy);
    Tensor<double, Cpu> dx({s.training.tokens(), width}, s.training.cpu);
    norm.backward({input.matrix(), {}, {}}, d.matrix(), {dx.matrix(), {}, {}}, s.training.pass, norm_cache);
    return dx.to_host();
  }

  /// Fills the outputs and, adding to the block's gradients, those of the inputs.
  void run() {
    auto& b = s.block;
    const nn::Dropout drop_a{s.probability, 23}, drop_f{s.probability, 24}, drop_x{s.probability, 25};
    const Values wr = s.wr.to_host(), wb = s.wb.to_host();
    const Values x = s.branched ? sum(s.residual.to_host(), dropped(s.branch.to_host(), drop_x)) : s.residual.to_host();
    if (s.pre_norm) {
      const Values n1 = normed(b.norm1, x, cache.norm1);
      const Values middle = sum(x, dropped(forward(b.attention, n1, cache.attention), drop_a));
      const Values n2 = normed(b.norm2, middle, cache.norm2);
      branch = forward(b.feed_forward, n2, cache.feed_forward);
      residual = middle;
      const Values dmiddle =
          sum(wr, normed_backward(b.norm2, middle, backward(b.feed_forward, n2, wb, cache.feed_forward), cache.norm2));
      const Values dn1 = backward(b.attention, n1, dropped(dmiddle, drop_a), cache.attention);
      dresidual = sum(dmiddle, normed_backward(b.norm1, x, dn1, cache.norm1));
      dbranch = dropped(dresidual, drop_x);
    } else {
      const Values s1 = sum(x, dropped(forward(b.attention, x, cache.attention), drop_a));
      const Values y1 = normed(b.norm1, s1, cache.norm1);
      const Values s2 = sum(y1, dropped(forward(b.feed_forward, y1, cache.feed_forward), drop_f));
      residual = normed(b.norm2, s2, cache.norm2);
      const Values ds2 = normed_backward(b.norm2, s2, wr, cache.norm2);
      const Values dy1 = sum(ds2, backward(b.feed_forward, y1, dropped(ds2, drop_f), cache.feed_forward));
      const Values ds1 = normed_backward(b.norm1, s1, dy1, cache.norm1);
      dresidual = sum(ds1, backward(b.attention, x, dropped(ds1, drop_a), cache.attention));
    }
  }

  S& s;
  typename S::Block::Cache cache;
  Values residual, branch, dresidual, dbranch;
};

template <template <class, class> class Norm, template <class, class> class FeedForward>
void check_block() {
  const test::TrainingPass training;
  for (const auto& kind : {std::pair{false, false}, {true, false}, {true, true}}) {
    const bool pre_norm = kind.first;
    const bool branched = kind.second;
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(pre_norm);
      CAPTURE(branched);
      CAPTURE(dropout);
      Setting<Norm, FeedForward> s(training, pre_norm, branched, dropout);
      const auto [dresidual, dbranch] = s.backward();
      const auto gradients = test::gradients_of(s.block);
      const auto loss = [&] { return s.loss(); };
      test::check_tensor_differences<Case>("residual", s.residual, dresidual, loss);
      if (branched) test::check_tensor_differences<Case>("branch", s.branch, dbranch, loss);
      test::check_parameter_differences<Case>(s.block, loss);

      const auto out = s.block.forward(s.stream(), training.pass, s.cache);
      s.store.zero_gradients();
      Unfused<Setting<Norm, FeedForward>> unfused(s);
      unfused.run();
      CHECK(test::relative_difference(s.rows(out.residual), unfused.residual) <= Case::tolerance);
      if (pre_norm) CHECK(test::relative_difference(s.rows(out.branch), unfused.branch) <= Case::tolerance);
      CHECK(out.dropout.probability == (pre_norm ? dropout : 0.0));
      CHECK(out.dropout.site == (pre_norm ? 24 : 0));
      CHECK(test::relative_difference(dresidual, unfused.dresidual) <= Case::tolerance);
      if (branched) CHECK(test::relative_difference(dbranch, unfused.dbranch) <= Case::tolerance);
      const auto expected = test::gradients_of(s.block);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(expected[i].first);
        CHECK(test::relative_difference(gradients[i].second, expected[i].second) <= Case::tolerance);
      }

      static_cast<void>(s.backward());  // adds to what the unfused way left
      const auto twice = test::gradients_of(s.block);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(expected[i].first);
        CHECK(test::relative_difference(twice[i].second, sum(expected[i].second, gradients[i].second)) <=
              Case::tolerance);
      }
    }
  }
}

TEST_CASE("a post-norm block adds its own branches and takes none") {
  const test::TrainingPass training;
  Setting<nn::LayerNorm, nn::Mlp> s(training, false, true, 0.0);
  CHECK_THROWS_WITH_AS(static_cast<void>(s.block.forward(s.stream(), training.pass, s.cache)),
                       "[Block] a post-norm block takes a stream without a branch; a norm before it adds the branch",
                       ArgumentError);
}

TEST_CASE("block of LayerNorm and Mlp: by differences, and layer by layer") { check_block<nn::LayerNorm, nn::Mlp>(); }
TEST_CASE("block of RmsNorm and SwiGlu: by differences, and layer by layer") { check_block<nn::RmsNorm, nn::SwiGlu>(); }

}  // namespace
