// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief JSON and the configs in it: ours, and config.json and generation_config.json of Hugging Face.
#include <string>
#include <string_view>

#include <storylm/io/config_json.hpp>
#include <storylm/io/hugging_face_config.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/model_parts.hpp>
#include <storylm/nn/transformer_config.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

void run(std::string_view input) {
  const std::string path = folder().write("config.json", input).string();
  boost::json::value document;
  static_cast<void>(
      refusal([&] { static_cast<void>(io::parse_json(input, {.name = "x"}, {.depth = 3, .values = 9})); }));
  if (!refusal([&] { document = io::read_json(path); }, path).empty()) return;
  must(io::parse_json(io::json_text(document)) == document, "JSON that changes when it is written and read",
       io::json_text(document));
  const boost::json::object* object = nullptr;
  if (!refusal([&] { object = &io::as_object(document, path); }, path).empty()) return;

  static_cast<void>(refusal(
      [&] {
        const io::ModelDescription model = io::config_from_json(*object, path);
        const boost::json::object written = io::config_to_json(model);
        must(io::config_to_json(io::config_from_json(written, path)) == written,
             "a config that is not what was written");
        detail::expect_enough_weights(model.config, 1e9, 1'000'000, path);
        must(parameter_count(model.config) >= 0, "the number of weights");
      },
      path));
  static_cast<void>(refusal(
      [&] {
        const io::HuggingFaceConfig model = io::read_hugging_face_config(*object, path);
        for (const token_t token : model.eos) must(token >= 0 && token < model.model.config.vocab_size, "a token");
        detail::expect_enough_weights(model.model.config, 1e9, 1'000'000, path);
        must(parameter_count(model.model.config) > 0, "the number of weights");
        static_cast<void>(io::read_generation_config(*object, path, model));
      },
      path));
}

void seeds(Seeds& made) {
  made.add(
      io::json_text(io::config_to_json({.config = {.vocab_size = 512, .d_model = 64, .n_layers = 2, .n_heads = 4}})));
  made.add(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "hidden_act": "silu", "max_position_embeddings": 256, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "rope_scaling": null, "tie_word_embeddings": true, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": [2, 3],
    "temperature": 0.7, "top_k": 40, "top_p": 0.9, "do_sample": true, "max_length": 20, "layer_types": ["full_attention"]})");
  made.add(R"({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128, "n_inner": null,
    "vocab_size": 512, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "eos_token_id": 50256})");
  made.add(R"({"model_type": "mistral", "sliding_window": 64, "rope_parameters": {"rope_type": "default",
    "rope_theta": 10000.0}, "dtype": "bfloat16", "vocab_size": 512, "hidden_size": 64})");
  made.add(R"([1.0, -0.0, 1e308, 5e-324, 0.1, {"a": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}])");
  json_words(made);
  made.words({"\"vocab_size\"",
              "\"d_model\"",
              "\"n_heads\"",
              "\"n_kv_heads\"",
              "\"head_dim\"",
              "\"max_len\"",
              "4194304",
              "4194305",
              "\"layer_norm\"",
              "\"rms_norm\"",
              "\"swiglu\"",
              "\"rope_half\"",
              "\"learned\"",
              "\"norm_eps\"",
              "\"num_key_value_heads\"",
              "\"num_attention_heads\"",
              "\"hidden_size\"",
              "\"quantization_config\"",
              "\"rope_type\"",
              "\"type\"",
              "\"partial_rotary_factor\"",
              "\"MistralForCausalLM\"",
              "\"GPT2LMHeadModel\""});
}

}  // namespace storylm::fuzz
