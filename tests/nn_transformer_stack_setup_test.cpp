// SPDX-License-Identifier: MIT
// Names and memory of the whole model's parameters, initial values, and configs that are refused.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "stack_support.hpp"

namespace {
using namespace storylm;
using namespace storylm::test;
using Single = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

constexpr TransformerConfig wide_config = {
    .vocab_size = 600, .d_model = 96, .d_ff = 384, .n_layers = 2, .n_heads = 4, .max_len = 160};

template <class Model>
std::vector<std::string> names(const Model& model) {
  std::vector<std::string> all;
  nn::for_each_parameter(model, [&](const std::string& name, const auto&) { all.push_back(name); });
  return all;
}

TEST_CASE("names and counts of parameters; arenas lie in the order of backward") {
  for_each_family({}, [&](auto& model) {
    CHECK(nn::parameter_count(model) == parameter_count(model.shape()));
    auto reversed = names(model);
    std::reverse(reversed.begin(), reversed.end());
    index_t offset = 0;
    std::vector<std::string> table;
    for (const nn::ParameterInfo& p : model.parameters().table()) {
      table.push_back(p.name);
      CHECK(p.offset == offset);
      CHECK(p.decay == (p.shape.rank() == 2));
      offset += (p.shape.size() + 255) / 256 * 256;
    }
    CHECK(table == reversed);
    CHECK(model.parameters().size() == offset);
  });
  const Cpu cpu;
  TransformerConfig config = seed_config;
  config.n_layers = 1;
  CHECK(names(Classic(config, cpu)) ==
        std::vector<std::string>{"embedding.weight", "blocks.0.attention.qkv.weight", "blocks.0.attention.qkv.bias",
                                 "blocks.0.attention.out.weight", "blocks.0.attention.out.bias",
                                 "blocks.0.norm1.weight", "blocks.0.norm1.bias", "blocks.0.feed_forward.up.weight",
                                 "blocks.0.feed_forward.up.bias", "blocks.0.feed_forward.down.weight",
                                 "blocks.0.feed_forward.down.bias", "blocks.0.norm2.weight", "blocks.0.norm2.bias",
                                 "norm.weight", "norm.bias", "head.weight", "head.bias"});
  config = llama_config;
  config.n_layers = 1;
  CHECK(names(Llama(config, cpu)) == std::vector<std::string>{"embedding.weight", "blocks.0.attention.qkv.weight",
                                                              "blocks.0.attention.out.weight", "blocks.0.norm1.weight",
                                                              "blocks.0.feed_forward.gate_up.weight",
                                                              "blocks.0.feed_forward.down.weight",
                                                              "blocks.0.norm2.weight", "norm.weight", "head.weight"});
  config = gpt2_config;  // tied: the head has nothing of its own
  const auto tied = names(Classic(config, cpu));
  CHECK(tied[1] == "embedding.positions");
  CHECK(tied.back() == "norm.bias");
}

/// Values of one parameter.
template <class Model>
std::vector<double> values_of(const Model& model, const std::string& name) {
  std::vector<double> values;
  nn::for_each_parameter(model, [&](const std::string& n, const auto& p) {
    if (n != name) return;
    const auto host = p.to_host();
    values.assign(host.begin(), host.end());
  });
  REQUIRE_FALSE(values.empty());
  return values;
}
bool all_are(const std::vector<double>& values, double value) {
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == value; });
}
double deviation(const std::vector<double>& values) {
  return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0) /
                   static_cast<double>(values.size()));
}

/// All uniform in [-bound, bound): within 12 %, for the smallest has 384 values; and the extremes are near the bound.
void check_uniform(const std::vector<double>& values, double bound) {
  CHECK(std::abs(deviation(values) / (bound / std::sqrt(3.0)) - 1.0) < 0.12);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  CHECK(*low >= -bound);
  CHECK(*high <= bound);
  CHECK(*low < -0.95 * bound);
  CHECK(*high > 0.95 * bound);
}

TEST_CASE("initial values of post-norm models are those of PyTorch's encoder, matrices by Xavier") {
  const Single model(wide_config, Cpu{});
  check_uniform(values_of(model, "embedding.weight"), std::sqrt(6.0 / (600 + 96)));
  check_uniform(values_of(model, "head.weight"), std::sqrt(6.0 / (600 + 96)));
  check_uniform(values_of(model, "head.bias"), 1.0 / std::sqrt(96.0));
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    check_uniform(values_of(model, block + "attention.qkv.weight"), std::sqrt(6.0 / (96 + 3 * 96)));
    check_uniform(values_of(model, block + "attention.out.weight"), std::sqrt(6.0 / (96 + 96)));
    check_uniform(values_of(model, block + "feed_forward.up.weight"), std::sqrt(6.0 / (96 + 384)));
    check_uniform(values_of(model, block + "feed_forward.down.weight"), std::sqrt(6.0 / (96 + 384)));
    check_uniform(values_of(model, block + "feed_forward.up.bias"), 1.0 / std::sqrt(96.0));
    const auto down_bias = values_of(model, block + "feed_forward.down.bias");  // 96 values
    CHECK(*std::max_element(down_bias.begin(), down_bias.end()) <= 1.0 / std::sqrt(384.0));
    CHECK(*std::max_element(down_bias.begin(), down_bias.end()) > 0.85 / std::sqrt(384.0));
    CHECK(all_are(values_of(model, block + "attention.qkv.bias"), 0.0));
    CHECK(all_are(values_of(model, block + "attention.out.bias"), 0.0));
    CHECK(all_are(values_of(model, block + "norm1.weight"), 1.0));
    CHECK(all_are(values_of(model, block + "norm2.bias"), 0.0));
  }
  CHECK(all_are(values_of(model, "norm.weight"), 1.0));
  CHECK(all_are(values_of(model, "norm.bias"), 0.0));
}

TEST_CASE("initial values of pre-norm models are GPT-2's") {
  TransformerConfig config = wide_config;
  config.pre_norm = true;
  config.positions = PositionKind::learned;
  const Single model(config, Cpu{});
  const auto check_normal = [&](const std::string& name, double sigma) {
    CAPTURE(name);
    CHECK(std::abs(deviation(values_of(model, name)) / sigma - 1.0) < 0.04);  // 9,216 values or more: 5 sigma
  };
  check_normal("embedding.weight", 0.02);
  check_normal("embedding.positions", 0.02);
  check_normal("head.weight", 0.02);
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    check_normal(block + "attention.qkv.weight", 0.02);
    check_normal(block + "attention.out.weight", 0.01);  // 0.02 / sqrt(2 * 2 layers)
    check_normal(block + "feed_forward.up.weight", 0.02);
    check_normal(block + "feed_forward.down.weight", 0.01);
    for (const char* bias :
         {"attention.qkv.bias", "attention.out.bias", "feed_forward.up.bias", "feed_forward.down.bias", "norm1.bias"})
      CHECK(all_are(values_of(model, block + bias), 0.0));
    CHECK(all_are(values_of(model, block + "norm2.weight"), 1.0));
  }
  CHECK(all_are(values_of(model, "head.bias"), 0.0));
}

TEST_CASE("a seed names the initial values, equal in float and double; they can be asked for, or left at zero") {
  const Cpu cpu;
  const auto all = [](const auto& model) {
    std::vector<double> values;
    nn::for_each_parameter(model, [&](const std::string&, const auto& p) {
      const auto host = p.to_host();
      values.insert(values.end(), host.begin(), host.end());
    });
    return values;
  };
  const auto base = all(Classic(seed_config, cpu, {.seed = 5}));
  CHECK(base == all(Classic(seed_config, cpu, {.seed = 5})));
  CHECK(base == all(Classic(seed_config, cpu, {.dropout = 0.3, .seed = 5}, nn::Gradients::no)));
  CHECK(base != all(Classic(seed_config, cpu, {.seed = 6})));
  auto single = all(Single(seed_config, cpu, {.seed = 5}));
  for (std::size_t i = 0; i < base.size(); ++i) REQUIRE(static_cast<float>(base[i]) == static_cast<float>(single[i]));
  CHECK(base == all(Classic(seed_config, cpu, {.seed = 5, .initialisation = Initialisation::xavier})));
  CHECK(base != all(Classic(seed_config, cpu, {.seed = 5, .initialisation = Initialisation::gpt2})));
  CHECK(all_are(all(Classic(seed_config, cpu, {.seed = 5, .initialisation = Initialisation::none})), 0.0));
}

TEST_CASE("configs and options that make no model are refused") {
  const auto refused = [](auto change, const std::string& message, const TransformerOptions& options = {}) {
    TransformerConfig config = seed_config;
    change(config);
    CAPTURE(message);
    CHECK_THROWS_WITH_AS(Classic(config, Cpu{}, options), message.c_str(), ArgumentError);
  };
  const auto keep = [](TransformerConfig&) {};
  using C = TransformerConfig&;
  refused([](C c) { c.vocab_size = 0; }, "[TransformerStack] vocab_size must be positive: 0");
  refused([](C c) { c.d_model = -8; }, "[TransformerStack] d_model must be positive: -8");
  refused([](C c) { c.d_ff = -1; }, "[TransformerStack] d_ff must be positive: -1");
  refused([](C c) { c.n_layers = 0; }, "[TransformerStack] n_layers must be positive: 0");
  refused([](C c) { c.n_heads = 0; }, "[TransformerStack] n_heads must be positive: 0");
  refused([](C c) { c.n_kv_heads = -1; }, "[TransformerStack] n_kv_heads must be positive: -1");
  refused([](C c) { c.head_dim = -2; }, "[TransformerStack] head_dim must be positive: -2");
  refused([](C c) { c.max_len = 0; }, "[TransformerStack] max_len must be positive: 0");
  refused(
      [](C c) {
        c.n_heads = 4;
        c.n_kv_heads = 3;
      },
      "[TransformerStack] n_heads 4 is not a multiple of n_kv_heads 3");
  refused([](C c) { c.n_heads = 3; },
          "[TransformerStack] d_model 8 is not a multiple of n_heads 3 and head_dim is not given");
  refused([](C c) { c.head_dim = 3; }, "[TransformerStack] head_dim must be even: 3");
  refused([](C c) { c.sliding_window = -1; }, "[TransformerStack] sliding_window must not be negative: -1");
  refused([](C c) { c.norm = NormKind::rms_norm; },
          "[TransformerStack] the config's norm is not the type's: use nn::with_stack_type");
  refused([](C c) { c.feed_forward = FeedForwardKind::swiglu; },
          "[TransformerStack] the config's feed_forward is not the type's: use nn::with_stack_type");
  refused(keep, "[TransformerStack] dropout must be in [0, 0.9999]: 1", {.dropout = 1.0});
  refused(keep, "[TransformerStack] dropout must be in [0, 0.9999]: -0.1", {.dropout = -0.1});
  refused(keep, "[TransformerStack] dropout must be in [0, 0.9999]: nan",
          {.dropout = std::numeric_limits<double>::quiet_NaN()});
  refused(keep, "[Norm] eps must not be negative: -1", {.norm_eps = -1.0});
  refused(keep, "[Norm] eps must not be negative: nan", {.norm_eps = std::numeric_limits<double>::quiet_NaN()});
  refused([](C c) { c.positions = PositionKind::rope_half; },
          "[TransformerStack] rope_theta must be positive and finite: 0", {.rope_theta = 0.0});
}

TEST_CASE("with_stack_type names the type that a config asks for") {
  const auto is = [](NormKind norm, FeedForwardKind feed_forward, auto expected) {
    TransformerConfig config = seed_config;
    config.norm = norm;
    config.feed_forward = feed_forward;
    return nn::with_stack_type<float, Cpu>(config, [&](auto type) {
      return std::is_same_v<typename decltype(type)::type, typename decltype(expected)::type>;
    });
  };
  using nn::LayerNorm, nn::RmsNorm, nn::Mlp, nn::SwiGlu, nn::TransformerStack;
  for (const auto f : {FeedForwardKind::relu, FeedForwardKind::gelu_tanh, FeedForwardKind::gelu_erf}) {
    CHECK(is(NormKind::layer_norm, f, std::type_identity<TransformerStack<float, Cpu, LayerNorm, Mlp>>{}));
    CHECK(is(NormKind::rms_norm, f, std::type_identity<TransformerStack<float, Cpu, RmsNorm, Mlp>>{}));
  }
  CHECK(is(NormKind::layer_norm, FeedForwardKind::swiglu,
           std::type_identity<TransformerStack<float, Cpu, LayerNorm, SwiGlu>>{}));
  CHECK(is(NormKind::rms_norm, FeedForwardKind::swiglu,
           std::type_identity<TransformerStack<float, Cpu, RmsNorm, SwiGlu>>{}));
}

}  // namespace
