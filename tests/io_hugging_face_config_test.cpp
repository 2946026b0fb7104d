// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief config.json in both dialects: what fields and their absence mean, and every refusal with its sentence.
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/hugging_face_config.hpp>
#include <storylm/models/presets.hpp>

#include "io_support.hpp"

using namespace storylm;
using test::error_of;

namespace {

io::HuggingFaceConfig config_of(const std::string& text) {
  return io::read_hugging_face_config(io::as_object(io::parse_json(text), "FILE"), "FILE");
}
/// A config of a family with further fields, which come first and are without the last comma.
io::HuggingFaceConfig gpt2(const std::string& fields) {
  return config_of("{" + fields + (fields.empty() ? "" : ", ") + "\"model_type\": \"gpt2\"}");
}
io::HuggingFaceConfig llama(const std::string& fields) {
  return config_of("{" + fields + (fields.empty() ? "" : ", ") + "\"model_type\": \"llama\"}");
}
io::HuggingFaceConfig mistral(const std::string& fields) {
  return config_of("{" + fields + (fields.empty() ? "" : ", ") + "\"model_type\": \"mistral\"}");
}
/// What is said of a config, without its beginning.
template <class F>
std::string refusal(F&& family, const std::string& fields) {
  const std::string message = error_of([&] { family(fields); });
  for (const std::string start : {"[config] FILE: ", "[json] FILE: "})
    if (message.starts_with(start)) return message.substr(start.size());
  return message;
}

}  // namespace

TEST_CASE("GPT-2: absent fields are GPT2Config's, as published files leave them out") {
  const io::HuggingFaceConfig config = gpt2("");
  CHECK(config.architecture == "GPT2LMHeadModel");
  CHECK(config.model.config == presets::gpt2.resolved());
  CHECK(config.model.options.norm_eps == 1e-5);
  CHECK(config.model.options.initialisation == Initialisation::none);
  CHECK(config.bos == 50256);
  CHECK(config.eos == std::vector<token_t>{50256});
  CHECK(!config.pad);
  CHECK(config.dtype.empty());
}

TEST_CASE("GPT-2: the file that GPT-2 XL is published with") {
  const io::HuggingFaceConfig config = config_of(R"({"activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1,
    "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
    "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024, "output_past": true, "resid_pdrop": 0.1,
    "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
    "summary_type": "cls_index", "summary_use_proj": true,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257})");
  CHECK(config.model.config == presets::gpt2_xl.resolved());
}

TEST_CASE("GPT-2: every field") {
  const io::HuggingFaceConfig config = gpt2(R"("vocab_size": 100, "n_positions": 50, "n_embd": 24, "n_layer": 3,
    "n_head": 6, "n_inner": 40, "activation_function": "gelu", "layer_norm_epsilon": 1e-6, "tie_word_embeddings": false,
    "dtype": "float16", "bos_token_id": 7, "eos_token_id": [8, 9], "pad_token_id": 3, "reorder_and_upcast_attn": true,
    "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false, "add_cross_attention": false)");
  const TransformerConfig expected = {.vocab_size = 100,
                                      .d_model = 24,
                                      .d_ff = 40,
                                      .n_layers = 3,
                                      .n_heads = 6,
                                      .max_len = 50,
                                      .pre_norm = true,
                                      .feed_forward = FeedForwardKind::gelu_erf,
                                      .positions = PositionKind::learned,
                                      .head_bias = false};
  CHECK(config.model.config == expected.resolved());
  CHECK(config.model.options.norm_eps == 1e-6);
  CHECK(config.dtype == "float16");
  CHECK(config.bos == 7);
  CHECK(config.eos == std::vector<token_t>{8, 9});
  CHECK(config.pad == 3);
  CHECK(gpt2(R"("n_embd": 24, "n_head": 2, "n_inner": null)").model.config.d_ff == 96);
  CHECK(gpt2(R"("activation_function": "gelu_pytorch_tanh")").model.config.feed_forward == FeedForwardKind::gelu_tanh);
  CHECK(gpt2(R"("activation_function": "gelu_fast")").model.config.feed_forward == FeedForwardKind::gelu_tanh);
  CHECK(gpt2(R"("activation_function": "relu")").model.config.feed_forward == FeedForwardKind::relu);
}

TEST_CASE("GPT-2: sizes under the names that other families give them") {
  const auto c = gpt2(R"("hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6,
                         "max_position_embeddings": 50)")
                     .model.config;
  CHECK(c.d_model == 24);
  CHECK(c.n_layers == 3);
  CHECK(c.n_heads == 6);
  CHECK(c.max_len == 50);
  CHECK(gpt2(R"("hidden_size": 24, "n_embd": 24)").model.config.d_model == 24);
  CHECK(refusal(gpt2, R"("hidden_size": 24, "n_embd": 36)") == R"("n_embd" is 36, but "hidden_size" is 24)");
}

TEST_CASE("GPT-2: what changes the result and is not computed is refused by name") {
  CHECK(refusal(gpt2, R"("activation_function": "quick_gelu")") ==
        R"("activation_function" is "quick_gelu", which is not supported: expected gelu_new, gelu_pytorch_tanh, )"
        "gelu_fast, gelu or relu");
  CHECK(refusal(gpt2, R"("scale_attn_weights": false)") ==
        R"("scale_attn_weights" is false, which is not supported: expected true)");
  CHECK(refusal(gpt2, R"("scale_attn_by_inverse_layer_idx": true)") ==
        R"("scale_attn_by_inverse_layer_idx" is true, which is not supported: expected false)");
  CHECK(refusal(gpt2, R"("add_cross_attention": true)") ==
        R"("add_cross_attention" is true, which is not supported: expected false)");
}

TEST_CASE("Llama: absent fields are LlamaConfig's") {
  const io::HuggingFaceConfig config = llama("");
  CHECK(config.architecture == "LlamaForCausalLM");
  TransformerConfig expected = presets::mistral_7b;
  expected.d_ff = 11008;
  expected.n_kv_heads = 32;
  expected.max_len = 2048;
  expected.sliding_window = 0;
  CHECK(config.model.config == expected.resolved());
  CHECK(config.model.options.norm_eps == 1e-6);
  CHECK(config.model.options.rope_theta == 10000.0);
  CHECK(config.bos == 1);
  CHECK(config.eos == std::vector<token_t>{2});
  CHECK(llama(R"("num_key_value_heads": null, "head_dim": null)").model.config == expected.resolved());
}

TEST_CASE("Mistral: absent fields are MistralConfig's, and an absent window is not a window of null") {
  const io::HuggingFaceConfig config = mistral("");
  CHECK(config.architecture == "MistralForCausalLM");
  TransformerConfig expected = presets::mistral_7b;
  expected.max_len = 131072;
  CHECK(config.model.config == expected.resolved());
  CHECK(config.model.config.sliding_window == 4096);
  CHECK(mistral(R"("sliding_window": null)").model.config.sliding_window == 0);
  CHECK(mistral(R"("sliding_window": 17)").model.config.sliding_window == 17);
  CHECK(config.model.config.n_kv_heads == 8);
  CHECK(mistral(R"("num_key_value_heads": null)").model.config.n_kv_heads == 32);
}

TEST_CASE("Mistral: the file that Mistral 7B is published with") {
  const io::HuggingFaceConfig config = config_of(R"({"architectures": ["MistralForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": true,
    "vocab_size": 32000})");
  CHECK(config.model.config == presets::mistral_7b.resolved());
  CHECK(config.model.options.norm_eps == 1e-5);
  CHECK(config.dtype == "bfloat16");
}

TEST_CASE("Llama: every field; head_dim is not width over heads") {
  const io::HuggingFaceConfig config = llama(R"("vocab_size": 100, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 50, "hidden_act": "swish", "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    "attention_bias": true, "mlp_bias": true, "pretraining_tp": 1, "layer_types": ["full_attention"])");
  const TransformerConfig expected = {.vocab_size = 100,
                                      .d_model = 24,
                                      .d_ff = 40,
                                      .n_layers = 3,
                                      .n_heads = 6,
                                      .n_kv_heads = 2,
                                      .head_dim = 16,
                                      .max_len = 50,
                                      .norm = NormKind::rms_norm,
                                      .pre_norm = true,
                                      .feed_forward = FeedForwardKind::swiglu,
                                      .positions = PositionKind::rope_half,
                                      .tie_head = true,
                                      .head_bias = false};
  CHECK(config.model.config == expected);
  const auto c = llama(R"("attention_bias": true)").model.config;
  CHECK((c.qkv_bias && c.attention_out_bias && !c.feed_forward_bias));
}

TEST_CASE("the base of RoPE, in both dialects") {
  const auto theta = [](const std::string& fields) { return llama(fields).model.options.rope_theta; };
  CHECK(theta(R"("rope_theta": 500000)") == 500000.0);
  CHECK(theta(R"("rope_theta": 5e5, "rope_scaling": null)") == 500000.0);
  CHECK(theta(R"("rope_scaling": {}, "rope_parameters": null)") == 10000.0);
  CHECK(theta(R"("rope_parameters": {"rope_theta": 5e5, "rope_type": "default"})") == 500000.0);
  CHECK(theta(R"("rope_parameters": {"rope_type": "default"}, "rope_theta": 5e5)") == 500000.0);
  CHECK(theta(R"("rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 1.0}, "rope_theta": 5e5)") == 5e5);
  CHECK(theta(R"("rope_scaling": {"type": "default"}, "rope_theta": 5e5)") == 500000.0);
}

TEST_CASE("a RoPE that is scaled, partial or contradicts itself is refused by name") {
  CHECK(refusal(llama, R"("rope_scaling": {"type": "linear", "factor": 2.0})") ==
        R"("rope_scaling": "type" is "linear", which is not supported: expected "default")");
  CHECK(refusal(mistral, R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.0})") ==
        R"("rope_scaling": "rope_type" is "dynamic", which is not supported: expected "default")");
  CHECK(refusal(llama, R"("rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0})") ==
        R"("rope_parameters": "rope_type" is "llama3", which is not supported: expected "default")");
  CHECK(refusal(llama, R"("rope_scaling": {"factor": 2.0})") ==
        R"("rope_scaling": "factor" is 2E0, which is not supported for the rope_type "default")");
  CHECK(refusal(llama, R"("rope_parameters": {"full_attention": {"rope_type": "default"}})") ==
        R"("rope_parameters": "full_attention" is an object, which is not supported for the rope_type "default")");
  CHECK(refusal(llama, R"("rope_parameters": {"partial_rotary_factor": 0.5})") ==
        R"("rope_parameters": "partial_rotary_factor" is 5E-1, which is not supported: expected 1E0)");
  CHECK(refusal(llama, R"("partial_rotary_factor": 0.5)") ==
        R"("partial_rotary_factor" is 5E-1, which is not supported: expected 1E0)");
  CHECK(refusal(llama, R"("rope_theta": 10000.0, "rope_parameters": {"rope_theta": 500.0})") ==
        R"("rope_parameters": "rope_theta" is 500, but outside of it 10000)");
  CHECK(refusal(llama, R"("rope_theta": 0)") == R"("rope_theta" is 0, expected a positive number)");
  CHECK(refusal(llama, R"("rope_scaling": "linear")") == R"("rope_scaling" is "linear", expected an object)");
}

TEST_CASE("Llama and Mistral: what changes the result and is not computed is refused by name") {
  CHECK(refusal(llama, R"("hidden_act": "gelu")") ==
        R"("hidden_act" is "gelu", which is not supported: expected "silu")");
  CHECK(refusal(llama, R"("sliding_window": 64)") ==
        R"("sliding_window" is 64, which is not supported: Llama has none)");
  CHECK(refusal(mistral, R"("attention_bias": true)") ==
        R"("attention_bias" is true, which is not supported: expected false)");
  CHECK(refusal(mistral, R"("mlp_bias": true)") == R"("mlp_bias" is true, which is not supported: expected false)");
  CHECK(refusal(mistral, R"("sliding_window": 0)") == R"("sliding_window" is 0, expected 1 to 4194304)");
  CHECK(refusal(mistral, R"("layer_types": ["sliding_attention", "full_attention"])") ==
        R"("layer_types" has "full_attention", which is not supported: expected "sliding_attention" in every layer)");
}

TEST_CASE("quantised weights, other architectures and unlike layers are refused by name") {
  CHECK(refusal(llama, R"("quantization_config": {"quant_method": "gptq"})") ==
        R"("quantization_config" is an object, which is not supported: weights must be F32, F16 or BF16)");
  CHECK(refusal(gpt2, R"("compression_config": {"format": "dense"})") ==
        R"("compression_config" is an object, which is not supported: weights must be F32, F16 or BF16)");
  CHECK(refusal(gpt2, R"("pruned_heads": {"0": [1]})") ==
        R"("pruned_heads" is an object, which is not supported: every layer must have all of its heads)");
  CHECK(gpt2(R"("pruned_heads": {})").model.config.n_heads == 12);
  CHECK(refusal(llama, R"("per_layer_config": {"0": {"head_dim": 8}})") ==
        R"("per_layer_config" is an object, which is not supported: all layers must be alike)");
  CHECK(refusal(gpt2, R"("is_encoder_decoder": true)") ==
        R"("is_encoder_decoder" is true, which is not supported: expected false)");
  // transformers 5 lets every token see those behind it; null is false to Python.
  for (const auto& family : {gpt2, llama, mistral})
    for (const std::string value : {"false", "null"})
      CHECK(refusal(family, "\"is_causal\": " + value) ==
            "\"is_causal\" is " + value + ", which is not supported: expected true");
  CHECK(llama(R"("is_causal": true)").architecture == "LlamaForCausalLM");
  CHECK(refusal(gpt2, R"("scale_attn_weights": null)") ==
        R"("scale_attn_weights" is null, which is not supported: expected true)");
  CHECK(gpt2(R"("add_cross_attention": null)").architecture == "GPT2LMHeadModel");
  CHECK(refusal(config_of, R"({"model_type": "qwen2"})") ==
        R"("model_type" says "qwen2", which is not supported: expected gpt2, llama or mistral)");
  CHECK(refusal(config_of, R"({"architectures": ["GPT2Model"], "model_type": "gpt2"})") ==
        R"("architectures" says "GPT2Model", which is not supported: expected GPT2LMHeadModel, LlamaForCausalLM or )"
        "MistralForCausalLM");
  CHECK(refusal(config_of, R"({"architectures": ["LlamaForCausalLM"], "model_type": "mistral"})") ==
        R"("model_type" is "mistral", but "architectures" says "LlamaForCausalLM")");
  CHECK(refusal(config_of, R"({"architectures": []})") == R"("architectures" has 0 names, expected 1)");
  CHECK(refusal(config_of, "{}") == R"(it has neither "architectures" nor "model_type")");
  CHECK(config_of(R"({"architectures": ["LlamaForCausalLM"]})").architecture == "LlamaForCausalLM");
  CHECK(config_of(R"({"architectures": null, "model_type": "mistral"})").architecture == "MistralForCausalLM");
}

TEST_CASE("sizes that are no sizes, or do not fit each other") {
  CHECK(refusal(gpt2, R"("n_layer": 0)") == R"("n_layer" is 0, expected 1 to 4194304)");
  CHECK(refusal(gpt2, R"("n_embd": -768)") == R"("n_embd" is -768, expected 1 to 4194304)");
  CHECK(refusal(llama, R"("hidden_size": 4194305)") == R"("hidden_size" is 4194305, expected 1 to 4194304)");
  CHECK(refusal(llama, R"("hidden_size": 1e9)") == R"("hidden_size" is 1E9, expected an integer)");
  CHECK(refusal(llama, R"("vocab_size": null)") == R"("vocab_size" is null, expected an integer)");
  CHECK(refusal(llama, R"("vocab_size": "32000")") == R"("vocab_size" is "32000", expected an integer)");
  CHECK(refusal(llama, R"("tie_word_embeddings": 1)") == R"("tie_word_embeddings" is 1, expected true or false)");
  CHECK(refusal(llama, R"("rms_norm_eps": -1e-5)") == R"("rms_norm_eps" is -1e-05, expected 0 to 1)");
  CHECK(refusal(gpt2, R"("n_head": 7)") == "the width 768 is not a multiple of the 7 heads");
  CHECK(refusal(llama, R"("num_attention_heads": 3)") == "the width 4096 is not a multiple of the 3 heads");
  CHECK(refusal(gpt2, R"("n_embd": 21, "n_head": 7)") == "the head size is 3, expected an even number");
  CHECK(refusal(llama, R"("num_key_value_heads": 5)") ==
        "the 32 heads are not a multiple of the 5 heads of keys and values");
  CHECK(refusal(llama, R"("head_dim": 0)") == R"("head_dim" is 0, expected 1 to 4194304)");
  CHECK(refusal(llama, R"("dtype": 16)") == R"("dtype" is 16, expected a string)");
}

TEST_CASE("special tokens: a number, several, null, absent, outside the vocabulary") {
  CHECK(!gpt2(R"("bos_token_id": null)").bos);
  CHECK(gpt2(R"("eos_token_id": null)").eos.empty());
  CHECK(llama(R"("pad_token_id": -1)").pad == std::nullopt);
  CHECK(gpt2(R"("vocab_size": 512)").eos.empty());
  CHECK(!gpt2(R"("vocab_size": 512, "bos_token_id": 50256)").bos);
  CHECK(llama(R"("eos_token_id": [2, 32000, 31999])").eos == std::vector<token_t>{2, 31999});
  CHECK(refusal(llama, R"("eos_token_id": "</s>")") == R"("eos_token_id" is "</s>", expected an integer)");
  CHECK(refusal(llama, R"("bos_token_id": [1])") == R"("bos_token_id" is an array, expected an integer or null)");
}

TEST_CASE("generation_config.json: what it says, and config.json where it does not") {
  const io::HuggingFaceConfig model = llama(R"("eos_token_id": [2, 7])");
  const auto generation = [&](const std::string& text) {
    return io::read_generation_config(io::as_object(io::parse_json(text), "FILE"), "FILE", model);
  };
  const io::GenerationConfig all = generation(R"({"bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 0,
    "do_sample": true, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1,
    "max_length": 99})");
  CHECK(all.bos == 5);
  CHECK(all.eos == std::vector<token_t>{6});
  CHECK(all.pad == 0);
  CHECK(all.do_sample);
  CHECK(all.temperature == 0.7);
  CHECK(all.top_k == 40);
  CHECK(all.top_p == 0.9);
  CHECK(all.min_p == 0.05);
  CHECK(all.repetition_penalty == 1.1);
  CHECK(all.max_length == 99);
  const io::GenerationConfig none = generation("{}");
  CHECK(none.bos == 1);
  CHECK(none.eos == std::vector<token_t>{2, 7});
  CHECK(!none.pad);
  CHECK(!none.do_sample);
  CHECK(
      (!none.temperature && !none.top_k && !none.top_p && !none.min_p && !none.repetition_penalty && !none.max_length));
  CHECK(generation(R"({"eos_token_id": null})").eos.empty());
  CHECK(error_of([&] { generation(R"({"top_k": 0.5})"); }) == "[json] FILE: \"top_k\" is 5E-1, expected an integer");
}

TEST_CASE("generation_config.json: what would change the stories and is not followed is named") {
  const auto names = [&](const std::string& text) {
    return io::read_generation_config(io::as_object(io::parse_json(text), "FILE"), "FILE", llama("")).unsupported;
  };
  CHECK(names(R"({"typical_p": 0.9, "no_repeat_ngram_size": 3, "suppress_tokens": [1], "bad_words_ids": [[5]],
                  "num_beams": 4})") ==
        std::vector<std::string>{"typical_p", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "num_beams"});
  // What files say that were written with every default.
  CHECK(names(R"({"typical_p": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": null, "bad_words_ids": [],
                  "num_beams": 1, "sequence_bias": {}, "min_length": 0, "length_penalty": 1.0, "top_k": 50})")
            .empty());
}

TEST_CASE("the reference folders' configs, one in the dialect of transformers 4, two in 5's") {
  const std::filesystem::path folders = std::filesystem::path(STORYLM_TEST_DIR) / "reference" / "hugging_face";
  const auto at = [&](const char* name) {
    const std::string path = (folders / name / "config.json").string();
    return io::read_hugging_face_config(io::as_object(io::read_json(path), path), path);
  };
  CHECK(at("llama").model.options.rope_theta == 500.0);
  CHECK(at("llama").dtype == "float16");
  CHECK(at("mistral").model.options.rope_theta == 10000.0);
  CHECK(at("mistral").dtype == "bfloat16");
  CHECK(at("gpt2").dtype == "float32");
}
