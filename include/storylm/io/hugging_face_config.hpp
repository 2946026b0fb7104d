// SPDX-License-Identifier: MIT
/// @file
/// @brief config.json and generation_config.json of Hugging Face folders: GPT-2, Llama and Mistral, as transformers 4
/// and 5 write them.
///
/// What an absent field means is what it means in transformers' configuration classes. What would change the result and
/// is not computed here (a scaled RoPE, another activation, quantised weights) is refused by name, never ignored.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/config_json.hpp>
#include <storylm/io/hugging_face_fields.hpp>
#include <storylm/io/json.hpp>

namespace storylm::io {

/// What a folder's config.json says.
struct HuggingFaceConfig {
  std::string architecture{};    ///< "GPT2LMHeadModel", "LlamaForCausalLM" or "MistralForCausalLM"
  ModelDescription model{};      ///< shape, norm_eps and rope_theta; initialisation is none
  std::string dtype{};           ///< of the weights, as written ("bfloat16"); empty where it is not said
  std::optional<token_t> bos{};  ///< begins a text; none when there is none or it is not in the vocabulary
  std::optional<token_t> pad{};  ///< the same of padding
  std::vector<token_t> eos{};    ///< each ends a text; those that are not in the vocabulary are left out
};

/// How a folder's author would have it generate. What is not said is what generation_config.json leaves out.
struct GenerationConfig {
  std::optional<token_t> bos{};                ///< begins a text; from config.json where it is not said
  std::optional<token_t> pad{};                ///< padding; from config.json where it is not said
  std::vector<token_t> eos{};                  ///< each ends a text; from config.json where it is not said
  bool do_sample = false;                      ///< else the most likely token is taken
  std::optional<double> temperature{};         ///< divides the logits
  std::optional<int> top_k{};                  ///< the most likely tokens among which one is drawn
  std::optional<double> top_p{};               ///< the same by probability
  std::optional<double> min_p{};               ///< the same by a share of the largest probability
  std::optional<double> repetition_penalty{};  ///< divides the logits of what has been said; 1: none
  std::optional<int> max_length{};             ///< tokens, prompt included
  std::vector<std::string> unsupported{};      ///< names of other fields that would have it draw other tokens
};

}  // namespace storylm::io

namespace storylm::detail {

struct HuggingFaceArchitecture {
  std::string_view name;
  std::string_view model_type;
};
inline constexpr std::array hugging_face_architectures{HuggingFaceArchitecture{"GPT2LMHeadModel", "gpt2"},
                                                       HuggingFaceArchitecture{"LlamaForCausalLM", "llama"},
                                                       HuggingFaceArchitecture{"MistralForCausalLM", "mistral"}};

/// By `architectures` and `model_type`, which must agree; one of them may be absent.
inline HuggingFaceArchitecture hugging_face_architecture(const HuggingFaceFields& fields) {
  const auto find = [&](std::string_view key, const std::string& text, auto member) {
    for (const HuggingFaceArchitecture& known : hugging_face_architectures)
      if (known.*member == text) return known;
    fields.check(false, io::quoted(key), " says ", io::quoted(text), ", which is not supported: expected ",
                 hugging_face_architectures[0].*member, ", ", hugging_face_architectures[1].*member, " or ",
                 hugging_face_architectures[2].*member);
    return hugging_face_architectures[0];
  };
  std::optional<HuggingFaceArchitecture> by_name;
  std::optional<HuggingFaceArchitecture> by_type;
  if (fields.says("model_type"))
    by_type = find("model_type", fields.value<std::string>("model_type", ""), &HuggingFaceArchitecture::model_type);
  if (fields.says("architectures")) {
    const auto names = fields.value<std::vector<std::string>>("architectures", {});
    fields.check(names.size() == 1, "\"architectures\" has ", names.size(), " names, expected 1");
    by_name = find("architectures", names[0], &HuggingFaceArchitecture::name);
  }
  fields.check(by_name || by_type, "it has neither \"architectures\" nor \"model_type\"");
  fields.check(!by_name || !by_type || by_name->name == by_type->name, "\"model_type\" is ",
               io::quoted(by_type ? by_type->model_type : ""), ", but \"architectures\" says ",
               io::quoted(by_name ? by_name->name : ""));
  return by_name ? *by_name : *by_type;
}

/// Of GPT2Config.
inline void read_gpt2_config(const HuggingFaceFields& fields, io::ModelDescription& model) {
  TransformerConfig& c = model.config;
  c.vocab_size = fields.count("vocab_size", 50257);
  c.max_len = fields.count("n_positions", "max_position_embeddings", 1024);
  c.d_model = fields.count("n_embd", "hidden_size", 768);
  c.n_layers = fields.count("n_layer", "num_hidden_layers", 12);
  c.n_heads = fields.count("n_head", "num_attention_heads", 12);
  c.d_ff = fields.count_or_null("n_inner", 4 * c.d_model, 4 * c.d_model);
  c.pre_norm = true;
  c.positions = PositionKind::learned;
  c.head_bias = false;
  c.tie_head = fields.value("tie_word_embeddings", true);
  const auto activation = fields.value<std::string>("activation_function", "gelu_new");
  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh" || activation == "gelu_fast") {
    c.feed_forward = FeedForwardKind::gelu_tanh;
  } else if (activation == "gelu") {
    c.feed_forward = FeedForwardKind::gelu_erf;
  } else {
    fields.check(activation == "relu", "\"activation_function\" is ", io::quoted(activation),
                 ", which is not supported: expected gelu_new, gelu_pytorch_tanh, gelu_fast, gelu or relu");
    c.feed_forward = FeedForwardKind::relu;
  }
  model.options.norm_eps = fields.eps("layer_norm_epsilon", 1e-5);
  // reorder_and_upcast_attn is about rounding in 16 bits alone: attention is accumulated in float here anyway.
  fields.only("scale_attn_weights", true);
  fields.only("scale_attn_by_inverse_layer_idx", false);
  fields.only("add_cross_attention", false);
}

/// One wavelength base, whichever dialect says it: rope_theta and rope_scaling, or rope_parameters.
inline double read_rope_theta(const HuggingFaceFields& fields) {
  fields.only("partial_rotary_factor", 1.0);
  std::optional<double> theta;
  if (fields.says("rope_theta")) theta = fields.value("rope_theta", 0.0);
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!fields.says(key)) continue;
    const auto object = fields.value<boost::json::object>(key, {});
    const std::string context = std::string(fields.context()) + ": " + io::quoted(key);
    const HuggingFaceFields rope(object, context);
    for (const std::string_view type : {"rope_type", "type"}) {
      if (!rope.says(type)) continue;
      const auto name = rope.value<std::string>(type, "default");
      rope.check(name == "default", io::quoted(type), " is ", io::quoted(name),
                 ", which is not supported: expected \"default\"");
    }
    rope.only("partial_rotary_factor", 1.0);
    for (const auto& field : object) {
      const std::string_view name(field.key().data(), field.key().size());
      constexpr std::array known{"rope_type", "type", "rope_theta", "partial_rotary_factor"};
      rope.check(std::find(known.begin(), known.end(), name) != known.end(), io::quoted(name), " is ",
                 io::describe(field.value()), ", which is not supported for the rope_type \"default\"");
    }
    if (!rope.says("rope_theta")) continue;
    const auto here = rope.value("rope_theta", 0.0);
    rope.check(!theta || *theta == here, "\"rope_theta\" is ", here, ", but outside of it ", theta.value_or(here));
    theta = here;
  }
  const double result = theta.value_or(10000.0);
  fields.check(std::isfinite(result) && result > 0.0, "\"rope_theta\" is ", result, ", expected a positive number");
  return result;
}

/// Of LlamaConfig and MistralConfig.
inline void read_llama_config(const HuggingFaceFields& fields, bool mistral, io::ModelDescription& model) {
  TransformerConfig& c = model.config;
  c.vocab_size = fields.count("vocab_size", 32000);
  c.d_model = fields.count("hidden_size", 4096);
  c.d_ff = fields.count("intermediate_size", mistral ? 14336 : 11008);
  c.n_layers = fields.count("num_hidden_layers", 32);
  c.n_heads = fields.count("num_attention_heads", 32);
  c.n_kv_heads = fields.count_or_null("num_key_value_heads", mistral ? 8 : c.n_heads, c.n_heads);
  c.head_dim = fields.says("head_dim") ? fields.count("head_dim", 0) : 0;
  c.max_len = fields.count("max_position_embeddings", mistral ? 131072 : 2048);
  c.norm = NormKind::rms_norm;
  c.pre_norm = true;
  c.feed_forward = FeedForwardKind::swiglu;
  c.positions = PositionKind::rope_half;
  c.head_bias = false;
  c.tie_head = fields.value("tie_word_embeddings", false);
  const bool bias = !mistral && fields.value("attention_bias", false);
  c.qkv_bias = bias;
  c.attention_out_bias = bias;
  c.feed_forward_bias = !mistral && fields.value("mlp_bias", false);
  if (mistral) {
    c.sliding_window = fields.count_or_null("sliding_window", 4096, 0);
    fields.only("attention_bias", false);
    fields.only("mlp_bias", false);
  } else {
    fields.none("sliding_window", "Llama has none");
  }
  const auto activation = fields.value<std::string>("hidden_act", "silu");
  fields.check(activation == "silu" || activation == "swish", "\"hidden_act\" is ", io::quoted(activation),
               ", which is not supported: expected \"silu\"");
  model.options.norm_eps = fields.eps("rms_norm_eps", 1e-6);
  model.options.rope_theta = read_rope_theta(fields);
  if (fields.says("layer_types")) {  // newer folders list the kind of every layer
    const std::string_view kind = c.sliding_window != 0 ? "sliding_attention" : "full_attention";
    for (const std::string& type : fields.value<std::vector<std::string>>("layer_types", {}))
      fields.check(type == kind, "\"layer_types\" has ", io::quoted(type), ", which is not supported: expected ",
                   io::quoted(kind), " in every layer");
  }
}

}  // namespace storylm::detail

namespace storylm::io {

/// What a config.json says, in the dialect of transformers 4 (rope_theta, rope_scaling, torch_dtype) or 5
/// (rope_parameters, dtype). @param context the file, for errors
/// @throws FormatError naming the field that is of another type, out of range, contradicted by another or not supported
[[nodiscard]] inline HuggingFaceConfig read_hugging_face_config(const boost::json::object& object,
                                                                std::string_view context) {
  const detail::HuggingFaceFields fields(object, context);
  const detail::HuggingFaceArchitecture architecture = detail::hugging_face_architecture(fields);
  fields.none("quantization_config", "weights must be F32, F16 or BF16");
  fields.none("compression_config", "weights must be F32, F16 or BF16");
  fields.none("pruned_heads", "every layer must have all of its heads");
  fields.none("per_layer_config", "all layers must be alike");
  fields.only("is_encoder_decoder", false);
  fields.only("is_causal", true);  // else transformers 5 has every token attend to all

  HuggingFaceConfig result{.architecture = std::string(architecture.name)};
  const bool gpt2 = architecture.model_type == "gpt2";
  if (gpt2) {
    detail::read_gpt2_config(fields, result.model);
  } else {
    detail::read_llama_config(fields, architecture.model_type == "mistral", result.model);
  }
  const TransformerConfig& c = result.model.config;
  fields.check(c.head_dim != 0 || c.d_model % c.n_heads == 0, "the width ", c.d_model, " is not a multiple of the ",
               c.n_heads, " heads");
  fields.check(c.head_size() % 2 == 0, "the head size is ", c.head_size(), ", expected an even number");
  fields.check(c.n_heads % c.kv_heads() == 0, "the ", c.n_heads, " heads are not a multiple of the ", c.kv_heads(),
               " heads of keys and values");
  result.model.config = c.resolved();
  result.model.options.initialisation = Initialisation::none;
  for (const std::string_view key : {"dtype", "torch_dtype"})
    if (result.dtype.empty() && fields.says(key)) result.dtype = fields.value<std::string>(key, "");
  result.bos = fields.id("bos_token_id", gpt2 ? 50256 : 1, c.vocab_size);
  result.eos = fields.ids("eos_token_id", {gpt2 ? 50256 : 2}, c.vocab_size);
  result.pad = fields.id("pad_token_id", std::nullopt, c.vocab_size);
  return result;
}

}  // namespace storylm::io

namespace storylm::detail {

struct UnsupportedGenerationField {
  std::string_view name;
  double neutral = 0.0;  ///< the number that changes nothing
};
/// What transformers samples by and this library does not.
inline constexpr std::array<UnsupportedGenerationField, 20> unsupported_generation_fields{
    {{"typical_p", 1.0},       {"top_h", 1.0},
     {"epsilon_cutoff"},       {"eta_cutoff"},
     {"no_repeat_ngram_size"}, {"bad_words_ids"},
     {"suppress_tokens"},      {"begin_suppress_tokens"},
     {"sequence_bias"},        {"forced_bos_token_id"},
     {"forced_eos_token_id"},  {"min_length"},
     {"min_new_tokens"},       {"exponential_decay_length_penalty"},
     {"guidance_scale", 1.0},  {"num_beams", 1.0},
     {"penalty_alpha"},        {"watermarking_config"},
     {"dola_layers"},          {"stop_strings"}}};

/// Names of those that say something.
inline std::vector<std::string> unsupported_generation(const boost::json::object& object) {
  std::vector<std::string> names;
  for (const UnsupportedGenerationField& field : unsupported_generation_fields) {
    const boost::json::value* const value = object.if_contains({field.name.data(), field.name.size()});
    if (value == nullptr || value->is_null()) continue;
    const bool empty = (value->is_array() && value->get_array().empty()) ||
                       (value->is_object() && value->get_object().empty()) || (value->is_bool() && !value->get_bool());
    if (!empty && !(value->is_number() && value->to_number<double>() == field.neutral)) names.emplace_back(field.name);
  }
  return names;
}

}  // namespace storylm::detail

namespace storylm::io {

/// What a generation_config.json says, or, where there is none, a config.json (older folders have it there).
/// @throws FormatError naming the field that is of another type
[[nodiscard]] inline GenerationConfig read_generation_config(const boost::json::object& object,
                                                             std::string_view context, const HuggingFaceConfig& model) {
  const detail::HuggingFaceFields fields(object, context);
  const int vocab_size = model.model.config.vocab_size;
  return {.bos = fields.id("bos_token_id", model.bos, vocab_size),
          .pad = fields.id("pad_token_id", model.pad, vocab_size),
          .eos = fields.ids("eos_token_id", model.eos, vocab_size),
          .do_sample = find<bool>(object, "do_sample", context).value_or(false),
          .temperature = find<double>(object, "temperature", context),
          .top_k = find<int>(object, "top_k", context),
          .top_p = find<double>(object, "top_p", context),
          .min_p = find<double>(object, "min_p", context),
          .repetition_penalty = find<double>(object, "repetition_penalty", context),
          .max_length = find<int>(object, "max_length", context),
          .unsupported = detail::unsupported_generation(object)};
}

}  // namespace storylm::io
