// SPDX-License-Identifier: MIT
#include <set>
#include <string_view>

#include <doctest/doctest.h>

#include <storylm/models/config.hpp>
#include <storylm/models/presets.hpp>

namespace {
using namespace storylm;

static_assert(ValidConfig<presets::story_24m>::value && ValidConfig<presets::story_3m>::value &&
              ValidConfig<presets::story_tiny>::value && ValidConfig<presets::gpt2>::value &&
              ValidConfig<presets::gpt2_medium>::value && ValidConfig<presets::gpt2_large>::value &&
              ValidConfig<presets::gpt2_xl>::value && ValidConfig<presets::mistral_7b>::value &&
              ValidConfig<presets::story_llama_tiny>::value && ValidConfig<presets::story_llama_24m>::value &&
              ValidConfig<presets::story_llama_3m>::value && ValidConfig<presets::story_gpt2_3m>::value);

TEST_CASE("presets have the number of parameters of the models they are named for") {
  CHECK(parameter_count(presets::story_24m) == 24'163'328);
  CHECK(parameter_count(presets::gpt2) == 124'439'808);
  CHECK(parameter_count(presets::gpt2_medium) == 354'823'168);
  CHECK(parameter_count(presets::gpt2_large) == 774'030'080);
  CHECK(parameter_count(presets::gpt2_xl) == 1'557'611'200);
  CHECK(parameter_count(presets::mistral_7b) == 7'241'732'096);
}

/// `config` with all sizes of `other`: what is left is the architecture.
TransformerConfig with_sizes_of(TransformerConfig config, const TransformerConfig& other) {
  config.vocab_size = other.vocab_size;
  config.d_model = other.d_model;
  config.d_ff = other.d_ff;
  config.n_layers = other.n_layers;
  config.n_heads = other.n_heads;
  config.n_kv_heads = other.n_kv_heads;
  config.head_dim = other.head_dim;
  config.max_len = other.max_len;
  return config;
}

TEST_CASE("trainable presets have names of their own, which tell their architecture") {
  std::set<std::string_view> names;
  for (const Preset& preset : presets::trainable) {
    CAPTURE(preset.name);
    CHECK(names.insert(preset.name).second);
    const TransformerConfig& c = preset.config;
    CHECK(c.head_size() % 8 == 0);
    TransformerConfig expected = presets::story_24m;  // the reference system's
    if (preset.name.starts_with("story_gpt2_")) expected = presets::gpt2;
    if (preset.name.starts_with("story_llama_")) {  // Llama's, which is Mistral's without window, with a tied head
      expected = presets::mistral_7b;
      expected.sliding_window = 0;
      expected.tie_head = true;
      CHECK(c.kv_heads() < c.n_heads);
    }
    CHECK(with_sizes_of(c, expected) == expected);
  }
  CHECK(names.contains("story_24m"));
  CHECK(names.contains("story_llama_24m"));
}

TEST_CASE("a preset in another shape is about as large as the one it is named like") {
  const auto about = [](const TransformerConfig& a, const TransformerConfig& b) {
    CHECK(a.vocab_size == b.vocab_size);
    CHECK(a.max_len == b.max_len);
    CHECK(10 * parameter_count(a) > 9 * parameter_count(b));
    CHECK(10 * parameter_count(a) < 12 * parameter_count(b));
  };
  about(presets::story_llama_24m, presets::story_24m);
  about(presets::story_llama_3m, presets::story_3m);
  about(presets::story_gpt2_3m, presets::story_3m);
}

}  // namespace
