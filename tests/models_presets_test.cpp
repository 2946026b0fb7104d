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
              ValidConfig<presets::mistral_7b>::value && ValidConfig<presets::story_llama_tiny>::value);

TEST_CASE("presets have the number of parameters of the models they are named for") {
  CHECK(parameter_count(presets::story_24m) == 24'163'328);
  CHECK(parameter_count(presets::gpt2) == 124'439'808);
  CHECK(parameter_count(presets::mistral_7b) == 7'241'732'096);
}

TEST_CASE("trainable presets have names of their own, and are the reference system's architecture") {
  std::set<std::string_view> names;
  for (const Preset& preset : presets::trainable) {
    CAPTURE(preset.name);
    CHECK(names.insert(preset.name).second);
    TransformerConfig c = preset.config;
    CHECK(c.head_size() % 8 == 0);
    c.vocab_size = presets::story_24m.vocab_size;
    c.d_model = presets::story_24m.d_model;
    c.d_ff = presets::story_24m.d_ff;
    c.n_layers = presets::story_24m.n_layers;
    c.n_heads = presets::story_24m.n_heads;
    c.max_len = presets::story_24m.max_len;
    CHECK(c == presets::story_24m);
  }
  CHECK(names.contains("story_24m"));
}

}  // namespace
