// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
// Makes a checkpoint with random weights of every shape that export_model writes, with its tokenizer, and what our
// library computes with it: logits, a greedy continuation, ids of texts. scripts/check_export.py compares other
// programs with it.
//
//   make_export_models --text TRAINING_TEXT --lines LINES --output-dir DIR
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/program.hpp"
#include "family_configs.hpp"
#include "logits_support.hpp"

namespace {

using namespace storylm;

struct Flags {
  std::filesystem::path text;
  std::filesystem::path lines;
  std::filesystem::path output_dir;
  index_t tokens = 700;
  index_t continued = 240;
};

struct Case {
  std::string_view name;
  TransformerConfig config;
  bool byte_fallback = true;
  bool lowercase = false;
};

constexpr test::FamilySizes sizes{
    .vocab_size = 600, .d_model = 96, .d_ff = 200, .n_heads = 6, .max_len = 1024, .head_dim = 32, .window = 64};
constexpr TransformerConfig deeper(TransformerConfig config) {
  config = test::resized(config, sizes);
  config.n_layers = 3;
  return config;
}
constexpr TransformerConfig mistral = deeper(test::llama_config);
constexpr TransformerConfig llama = [] {
  TransformerConfig config = mistral;
  config.sliding_window = 0;
  config.tie_head = true;
  return config;
}();
constexpr TransformerConfig gpt2 = deeper(test::gpt2_config);

std::vector<Case> cases() {
  std::vector<Case> all{{"llama_gqa", llama}, {"llama_pairs", llama}, {"mistral", mistral},
                        {"gpt2", gpt2},       {"gpt2_relu", gpt2},    {"reference", gpt2}};
  TransformerConfig& pairs = all[1].config;  // rotated side by side, all biases, an own head
  pairs.positions = PositionKind::rope_interleaved;
  pairs.n_kv_heads = pairs.head_dim = 0;
  pairs.tie_head = false;
  pairs.qkv_bias = pairs.attention_out_bias = pairs.feed_forward_bias = true;
  all[1].lowercase = true;
  all[3].lowercase = true;
  all[4].config.feed_forward = FeedForwardKind::relu;
  all[4].config.tie_head = false;
  all[4].byte_fallback = false;
  TransformerConfig& reference = all[5].config;
  reference.pre_norm = reference.tie_head = false;
  reference.feed_forward = FeedForwardKind::relu;
  reference.positions = PositionKind::sinusoidal;
  reference.scale_embedding = reference.head_bias = true;
  return all;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  expects<ArgumentError>(!lines.empty(), "make_export_models", path.string(), " has no lines");
  return lines;
}

/// Vectors too get values that a constructor does not give them. Larger matrices: what is read before counts
/// for more than the last token, which a random model would else only repeat.
template <class Stack>
void change_weights(Stack& model) {
  RandomStream random(2, 0, 0x6578706FU);
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    std::vector<float> values = p.to_host();
    const bool vector = p.shape().rank() == 1;
    const bool scale = vector && name.ends_with("weight");
    for (float& value : values) {
      if (vector) value = static_cast<float>((scale ? 1.0 : 0.0) + 0.2 * random.normal());
      if (!vector && !name.starts_with("embedding")) value *= 2.5F;
    }
    p.assign(values);
  });
}

/// Ids of the lines, one text after another, cut to `count`.
std::vector<token_t> text_ids(const SentencePieceTokenizer& tokenizer, const std::vector<std::string>& lines,
                              std::size_t count) {
  std::vector<token_t> ids{tokenizer.bos()};
  for (const std::string& line : lines) {
    for (const token_t id : tokenizer.encode(line)) ids.push_back(id);
    if (ids.size() >= count) break;
  }
  expects<ArgumentError>(ids.size() >= count, "make_export_models", "the text has ", ids.size(), " tokens only");
  ids.resize(count);
  return ids;
}

void make(const Case& wanted, const Flags& flags, const std::vector<std::string>& text,
          const std::vector<std::string>& lines) {
  const std::filesystem::path folder = flags.output_dir / wanted.name;
  std::filesystem::create_directories(folder);
  const SentencePieceTokenizer tokenizer = train_sentencepiece(
      text,
      {.vocab_size = wanted.config.vocab_size, .byte_fallback = wanted.byte_fallback, .lowercase = wanted.lowercase});
  tokenizer.save(folder / "bpe.model");
  boost::json::array encoded;
  for (const std::string& line : lines) {
    const std::vector<token_t> ids = tokenizer.encode(line);
    encoded.push_back(boost::json::object{
        {"text", line}, {"ids", boost::json::array(ids.begin(), ids.end())}, {"decoded", tokenizer.decode(ids)}});
  }
  storylm::detail::write_file(folder / "texts.json", io::json_text(encoded));

  const std::vector<token_t> ids = text_ids(tokenizer, text, static_cast<std::size_t>(flags.tokens));
  nn::with_stack_type<float, Cpu>(wanted.config, [&]<class Stack>(std::type_identity<Stack>) {
    const TransformerOptions options{.initialisation = Initialisation::xavier};
    Stack model(wanted.config, Cpu{}, options, nn::Gradients::no);
    change_weights(model);
    io::CheckpointWriter writer(io::model_metadata(model, tokenizer.hash()));
    io::add_model(writer, model);
    writer.save(folder / "checkpoint.safetensors");

    const std::vector<float> logits = test::logits_of(model, ids);
    Generator<Stack> generator(model, 1);
    const std::string prompt_text = tokenizer.normalise(text.front().substr(0, text.front().find(' ', 60)));
    std::vector<token_t> prompt{tokenizer.bos()};
    for (const token_t id : tokenizer.encode(prompt_text)) prompt.push_back(id);
    const std::vector<GenerateRequest> request{
        {.prompt = prompt, .max_tokens = static_cast<index_t>(prompt.size()) + flags.continued}};
    const auto story =
        generator.generate(request, {.sampler = {.temperature = 0.0}, .eos = -1, .banned = {0, 1, 2, 3}}).front();
    io::SafetensorsWriter values({.metadata = {{"prompt", prompt_text}}});
    values.add<std::int32_t>("ids", {static_cast<index_t>(ids.size())}, ids);
    values.add<float>("logits", {static_cast<index_t>(ids.size()), wanted.config.vocab_size}, logits);
    values.add<std::int32_t>("greedy", {static_cast<index_t>(story.ids.size())}, story.ids);
    values.save(folder / "computed.safetensors");
  });
}

int run(const Flags& flags) {
  const std::vector<std::string> text = lines_of(flags.text);
  const std::vector<std::string> lines = lines_of(flags.lines);
  for (const Case& wanted : cases()) {
    make(wanted, flags, text, lines);
    std::cout << wanted.name << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Makes checkpoints of every shape that export_model writes, and what our library computes with them.",
               "make_export_models");
  Flags flags;
  app.add_option("--text", flags.text, "text that tokenizers are trained on, one story per line")->required();
  app.add_option("--lines", flags.lines, "texts whose ids are written, one per line")->required();
  app.add_option("--output-dir", flags.output_dir, "gets a folder for each shape")->required();
  app.add_option("--tokens", flags.tokens, "how many tokens logits are computed for")->capture_default_str();
  app.add_option("--continued", flags.continued, "how many tokens are generated")->capture_default_str();
  return program::run(app, argc, argv, [&] { return run(flags); });
}
