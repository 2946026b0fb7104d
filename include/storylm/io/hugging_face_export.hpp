// SPDX-License-Identifier: MIT
/// @file
/// @brief Checkpoints as folders that Hugging Face transformers loads, or PyTorch for the reference architecture.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/atomic_folder.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/model_tensors.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/io/tokenizer_json.hpp>

namespace storylm::io {

/// What a folder has besides the model.
struct HuggingFaceExportOptions {
  FileDtype dtype = file_dtype<float>;                          ///< of all weights: F32, F16 or BF16
  std::optional<SentencePieceModel> tokenizer = {};             ///< of the model's ids
  bool lowercase = false;                                       ///< text is lower-cased before the tokenizer
  std::vector<std::pair<std::string, std::string>> files = {};  ///< name and content of further files
};

/// What was written.
struct ExportSummary {
  std::string architecture;  ///< "LlamaForCausalLM"
  std::size_t tensors = 0;   ///< in the file
  index_t parameters = 0;    ///< weights in them
};

}  // namespace storylm::io

namespace storylm::detail {

/// Refuses by name what an architecture does not have.
class ArchitectureCheck {
 public:
  ArchitectureCheck(const TransformerConfig& config, std::string_view architecture)
      : fields_(io::config_to_json({config, {}})), architecture_(architecture) {}

  /// @throws ArgumentError naming the field, its value and what the architecture has
  void require(bool ok, std::string_view field, std::string_view has) const {
    expects<ArgumentError>(ok, "export", field, " is ", io::json_text(fields_.at({field.data(), field.size()})),
                           ", but ", architecture_, " has ", has);
  }

 private:
  boost::json::object fields_;
  std::string_view architecture_;
};

/// "LlamaForCausalLM" or "MistralForCausalLM" of a model with Llama's names. @throws ArgumentError
inline std::string llama_architecture(const TransformerConfig& c) {
  const bool window = c.sliding_window != 0 && c.sliding_window < c.max_len;
  const std::string name = window ? "MistralForCausalLM" : "LlamaForCausalLM";
  const ArchitectureCheck check(c, name);
  check.require(c.pre_norm, "pre_norm", "its norms before attention and feed-forward");
  check.require(c.uses_rope(), "positions", "rotary positions");
  check.require(!c.scale_embedding, "scale_embedding", "no factor at the embedding");
  check.require(!c.head_bias, "head_bias", "no bias at the head");
  if (window) {
    check.require(!c.qkv_bias, "qkv_bias", "no biases");
    check.require(!c.attention_out_bias, "attention_out_bias", "no biases");
    check.require(!c.feed_forward_bias, "feed_forward_bias", "no biases");
  } else {
    check.require(c.attention_out_bias == c.qkv_bias, "attention_out_bias", "one switch for it and qkv_bias");
    check.require(c.d_model % c.n_heads == 0, "d_model", "a width that is a multiple of n_heads");
  }
  return name;
}

/// What blocks of GPT-2 and of torch.nn.TransformerEncoder have in common. @throws ArgumentError
inline void check_plain_blocks(const ArchitectureCheck& check, const TransformerConfig& c) {
  check.require(c.norm == NormKind::layer_norm, "norm", "layer_norm");
  check.require(c.n_kv_heads == c.n_heads, "n_kv_heads", "as many heads of keys and values as of queries");
  check.require(c.head_dim * c.n_heads == c.d_model, "head_dim", "heads of d_model / n_heads columns");
  check.require(c.sliding_window == 0 || c.sliding_window >= c.max_len, "sliding_window", "none");
  check.require(c.qkv_bias, "qkv_bias", "a bias there");
  check.require(c.attention_out_bias, "attention_out_bias", "a bias there");
  check.require(c.feed_forward_bias, "feed_forward_bias", "a bias there");
  check.require(c.norm_bias, "norm_bias", "a bias there");
}

/// @throws ArgumentError
inline void check_gpt2(const TransformerConfig& c) {
  const ArchitectureCheck check(c, "GPT2LMHeadModel");
  check_plain_blocks(check, c);
  check.require(!c.scale_embedding, "scale_embedding", "no factor at the embedding");
  check.require(!c.head_bias, "head_bias", "no bias at the head");
}

/// What torch.nn.TransformerEncoder between an Embedding and a Linear can be. @throws ArgumentError
inline void check_encoder(const TransformerConfig& c) {
  const ArchitectureCheck check(c, "torch.nn.TransformerEncoder");
  check_plain_blocks(check, c);
  check.require(c.feed_forward == FeedForwardKind::relu || c.feed_forward == FeedForwardKind::gelu_erf, "feed_forward",
                "relu or gelu_erf");
  check.require(c.positions == PositionKind::sinusoidal, "positions", "none, and its loader adds sinusoidal ones");
  check.require(!c.tie_head, "tie_head", "a head of its own");
  check.require(c.head_bias, "head_bias", "a bias there");
}

/// A flat document with a line for each field, as Hugging Face's files are.
inline std::string lines_of(const boost::json::object& object) {
  std::string text = "{";
  for (const auto& field : object)
    text += (text.size() > 1 ? ",\n  " : "\n  ") + io::json_text(boost::json::string(field.key())) + ": " +
            io::json_text(field.value());
  return text + "\n}\n";
}

inline std::string_view torch_dtype(io::FileDtype dtype) {
  if (dtype == io::file_dtype<half>) return "float16";
  return dtype == io::file_dtype<bf16> ? "bfloat16" : "float32";
}

/// The ids of special tokens that there are.
inline boost::json::object special_ids(const std::optional<io::SentencePieceModel>& tokenizer) {
  boost::json::object ids{{"bos_token_id", nullptr}, {"eos_token_id", nullptr}, {"pad_token_id", nullptr}};
  if (!tokenizer) return ids;
  if (tokenizer->bos >= 0) ids["bos_token_id"] = tokenizer->bos;
  if (tokenizer->eos >= 0) ids["eos_token_id"] = tokenizer->eos;
  if (tokenizer->pad >= 0) ids["pad_token_id"] = tokenizer->pad;
  return ids;
}

inline boost::json::object gpt2_config(const TransformerConfig& c, const TransformerOptions& options) {
  return {{"architectures", boost::json::array{"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", c.vocab_size},
          {"n_positions", c.max_len},
          {"n_ctx", c.max_len},
          {"n_embd", c.d_model},
          {"n_layer", c.n_layers},
          {"n_head", c.n_heads},
          {"n_inner", c.d_ff},
          {"activation_function", c.feed_forward == FeedForwardKind::gelu_tanh  ? "gelu_new"
                                  : c.feed_forward == FeedForwardKind::gelu_erf ? "gelu"
                                                                                : "relu"},
          {"layer_norm_epsilon", options.norm_eps},
          {"tie_word_embeddings", c.tie_head}};
}

inline boost::json::object llama_config(const TransformerConfig& c, const TransformerOptions& options,
                                        const std::string& architecture) {
  const bool mistral = architecture == "MistralForCausalLM";
  boost::json::object config{{"architectures", boost::json::array{architecture}},
                             {"model_type", mistral ? "mistral" : "llama"},
                             {"vocab_size", c.vocab_size},
                             {"hidden_size", c.d_model},
                             {"intermediate_size", c.d_ff},
                             {"num_hidden_layers", c.n_layers},
                             {"num_attention_heads", c.n_heads},
                             {"num_key_value_heads", c.n_kv_heads},
                             {"head_dim", c.head_dim},
                             {"hidden_act", "silu"},
                             {"max_position_embeddings", c.max_len},
                             {"rms_norm_eps", options.norm_eps}};
  if (mistral) {
    config["sliding_window"] = c.sliding_window;
  } else {
    config["attention_bias"] = c.qkv_bias;
    config["mlp_bias"] = c.feed_forward_bias;
  }
  // transformers 4 reads the first of the two, transformers 5 the second.
  config["rope_theta"] = options.rope_theta;
  config["rope_parameters"] = boost::json::object{{"rope_type", "default"}, {"rope_theta", options.rope_theta}};
  config["tie_word_embeddings"] = c.tie_head;
  return config;
}

inline boost::json::object tokenizer_config(const io::SentencePieceModel& tokenizer, const TransformerConfig& c) {
  boost::json::object config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                             {"add_bos_token", tokenizer.bos >= 0},
                             {"add_eos_token", false},
                             {"clean_up_tokenization_spaces", false},
                             {"model_max_length", c.max_len}};
  const auto name = [&](const char* key, token_t id) {
    if (id >= 0) config[key] = tokenizer.pieces[static_cast<std::size_t>(id)].text;
  };
  name("bos_token", tokenizer.bos);
  name("eos_token", tokenizer.eos);
  name("unk_token", tokenizer.unk);
  name("pad_token", tokenizer.pad);
  return config;
}

}  // namespace storylm::detail

namespace storylm::io {

/// What transformers calls a model of that shape: "GPT2LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM"; for the
/// reference architecture "TransformerEncoder", which is PyTorch's own.
/// @throws ArgumentError naming the field that none of them can express
[[nodiscard]] inline std::string hugging_face_architecture(const TransformerConfig& config) {
  const TransformerConfig c = config.resolved();
  switch (name_family(c)) {
    case NameFamily::llama:
      return detail::llama_architecture(c);
    case NameFamily::gpt2:
      detail::check_gpt2(c);
      return "GPT2LMHeadModel";
    case NameFamily::pytorch:
      break;
  }
  detail::check_encoder(c);
  return "TransformerEncoder";
}

/// The config.json of a model, in the words of transformers 4 and of transformers 5; for the reference architecture
/// our own words. @throws ArgumentError as hugging_face_architecture()
[[nodiscard]] inline boost::json::object hugging_face_config(const ModelDescription& model,
                                                             const HuggingFaceExportOptions& options = {}) {
  const TransformerConfig c = model.config.resolved();
  const std::string architecture = hugging_face_architecture(c);
  boost::json::object config;
  if (architecture == "GPT2LMHeadModel") {
    config = detail::gpt2_config(c, model.options);
  } else if (architecture == "TransformerEncoder") {
    config = config_to_json({c, model.options});
  } else {
    config = detail::llama_config(c, model.options, architecture);
  }
  for (const auto& id : detail::special_ids(options.tokenizer)) config[id.key()] = id.value();
  config["torch_dtype"] = detail::torch_dtype(options.dtype);
  config["dtype"] = detail::torch_dtype(options.dtype);
  return config;
}

/// Writes a checkpoint's model as a folder: config.json, generation_config.json, model.safetensors, and with a
/// tokenizer tokenizer.json and tokenizer_config.json. Complete or absent; weights go from the mapped file into the new
/// one some at a time.
/// @throws ArgumentError naming the field that no architecture can express, when `folder` is there and not empty or the
/// tokenizer has another number of pieces; FormatError when the checkpoint is damaged; WriteError
inline ExportSummary export_hugging_face(const ModelFile& model, const std::filesystem::path& folder,
                                         const HuggingFaceExportOptions& options = {}) {
  const TransformerConfig c = model.config().resolved();
  ExportSummary summary{.architecture = hugging_face_architecture(c)};
  if (options.tokenizer) {
    expects<ArgumentError>(options.tokenizer->pieces.size() == static_cast<std::size_t>(c.vocab_size), "export",
                           "the tokenizer has ", options.tokenizer->pieces.size(), " pieces, the model ", c.vocab_size);
  }
  const ModelTensors tensors(model);
  detail::AtomicFolder out(folder);
  const auto write = [&](const std::string& name, const std::string& text) {
    detail::write_file(out.temporary() / name, text);
  };
  write("config.json", detail::lines_of(hugging_face_config({c, model.options()}, options)));
  write("generation_config.json", detail::lines_of(detail::special_ids(options.tokenizer)));
  if (options.tokenizer) {
    write("tokenizer.json", tokenizer_json(*options.tokenizer, options.lowercase, true));
    write("tokenizer_config.json", detail::lines_of(detail::tokenizer_config(*options.tokenizer, c)));
  }
  for (const auto& [name, content] : options.files) write(name, content);

  SafetensorsWriter writer({.metadata = {{"format", "pt"}}});
  // Hugging Face's Llama rotates halves.
  const bool pairs = c.positions == PositionKind::rope_interleaved;
  for (const TensorSource& source : tensors.reordered(pairs ? RowOrder::halves_of_pairs : RowOrder::as_stored)) {
    writer.add(source.stored->name, options.dtype, source.shape, tensors.producer(options.dtype, source));
    summary.parameters += source.shape.size();
    ++summary.tensors;
  }
  writer.save(out.temporary() / "model.safetensors");
  out.publish();
  return summary;
}

}  // namespace storylm::io
