// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief GPT-2, Llama and Mistral from folders against transformers: logits of 300 tokens, beyond Mistral's window and
/// with grouped queries, and greedy continuations of 200. tests/reference/make_hugging_face.py made the folders.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/generate/generator.hpp>
#include <storylm/io/hugging_face.hpp>
#include <storylm/models/transformer_lm.hpp>

#include "family_configs.hpp"
#include "logits_support.hpp"

using namespace storylm;

namespace {

const std::filesystem::path folders = std::filesystem::path(STORYLM_TEST_DIR) / "reference" / "hugging_face";

/// What transformers made of a folder.
struct Reference {
  explicit Reference(const std::string& name) : file(folders / (name + ".safetensors")) {}
  template <class T>
  [[nodiscard]] std::vector<T> get(const std::string& name) const {
    const io::StoredTensor& tensor = file.at(name);
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    return file.read<T>(name, shape);
  }
  io::SafetensorsFile file;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest;
}

/// Loads, and compares everything there is. Returns the model's config.
template <class Stack>
TransformerConfig compare(const std::string& name) {
  CAPTURE(name);
  const io::HuggingFaceFolder folder(folders / name);
  const Reference reference(name);
  Stack model(folder.config(), Cpu{}, folder.options(), nn::Gradients::no);
  folder.load_into(model);

  const auto ids = reference.get<token_t>("ids");
  CHECK(ids.size() == 300);
  const std::vector<float> logits = test::logits_of(model, ids);
  const auto vocab_size = static_cast<std::size_t>(folder.config().vocab_size);
  std::vector<float> kept;  // of each token: every 32nd logit, and a sum that all of them are part of
  std::vector<float> sums;
  for (std::size_t row = 0; row < ids.size(); ++row) {
    double sum = 0.0;
    for (std::size_t column = 0; column < vocab_size; ++column) {
      const float value = logits[row * vocab_size + column];
      if (column % 32 == 0) kept.push_back(value);
      sum += std::exp(static_cast<double>(value));
    }
    sums.push_back(static_cast<float>(std::log(sum)));
  }
  CHECK(largest_difference(kept, reference.get<float>("logits")) < 1e-4);
  CHECK(largest_difference(sums, reference.get<float>("log_sum_exp")) < 1e-4);
  CHECK(largest_difference({logits.end() - folder.config().vocab_size, logits.end()},
                           reference.get<float>("last_logits")) < 1e-4);

  const auto greedy = reference.get<token_t>("greedy");
  const auto prompt = std::stoi(reference.file.metadata().at("prompt_tokens"));
  Generator<Stack> generator(model, 1);
  GenerateOptions options;
  options.sampler.temperature = 0.0;
  options.eos = -1;
  options.banned = {0, 1, 2};
  const GenerateRequest request{.prompt = {greedy.begin(), greedy.begin() + prompt},
                                .max_tokens = static_cast<index_t>(greedy.size())};
  CHECK(greedy.size() == static_cast<std::size_t>(prompt) + 200);
  const auto stories = generator.generate(std::span(&request, 1), options);
  CHECK(stories.at(0).ids == greedy);
  return folder.config();
}

using Gpt2 = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;
using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;

}  // namespace

TEST_CASE("GPT-2 agrees with transformers: 300 logits to 1e-4, 200 greedy tokens") {
  const TransformerConfig config = compare<Gpt2>("gpt2");
  CHECK(config.tie_head);
}

TEST_CASE("Llama agrees with transformers: grouped queries, biases, tied head, F16, another theta") {
  const TransformerConfig config = compare<Llama>("llama");
  CHECK(config.n_kv_heads < config.n_heads);
  CHECK(config.sliding_window == 0);
}

TEST_CASE("Mistral agrees with transformers: grouped queries, beyond its window, untied head, BF16, shards") {
  const TransformerConfig config = compare<Llama>("mistral");
  CHECK(config.n_kv_heads < config.n_heads);
  CHECK(config.sliding_window == 64);
}

TEST_CASE("A folder loads into a TransformerLM of its config, and no other") {
  constexpr TransformerConfig mistral = test::resized(
      test::llama_config,
      {.vocab_size = 512, .d_model = 32, .d_ff = 64, .n_heads = 4, .max_len = 512, .head_dim = 16, .window = 64});
  const io::HuggingFaceFolder folder(folders / "mistral");
  TransformerLM<mistral> model(Cpu{}, folder.options(), nn::Gradients::no);
  CHECK_NOTHROW(folder.load_into(model));
  Llama other(folder.config(), Cpu{}, folder.options(), nn::Gradients::no);
  folder.load_into(other);
  CHECK(model.blocks[1].attention.qkv.weight.to_host() == other.blocks[1].attention.qkv.weight.to_host());

  TransformerConfig wider = mistral;
  wider.sliding_window = 65;
  Llama another(wider, Cpu{}, folder.options(), nn::Gradients::no);
  const std::string path = (folders / "mistral" / "config.json").string();
  CHECK_THROWS_WITH_AS(folder.load_into(another), ("[model] " + path + ": sliding_window is 64, expected 65").c_str(),
                       FormatError);
  Llama with_other_eps(mistral, Cpu{}, {.initialisation = Initialisation::none}, nn::Gradients::no);
  CHECK_THROWS_WITH_AS(folder.load_into(with_other_eps),
                       ("[model] " + path + ": norm_eps is 1E-6, expected 1E-5").c_str(), FormatError);
}
