// SPDX-License-Identifier: MIT
/// @file
/// @brief A model's config as a JSON object: what checkpoints carry in their metadata.
#pragma once

#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <storylm/io/json.hpp>
#include <storylm/nn/transformer_stack.hpp>

namespace storylm::io {}  // namespace storylm::io

namespace storylm::detail {

inline constexpr std::array norm_names{std::pair{NormKind::layer_norm, "layer_norm"},
                                       std::pair{NormKind::rms_norm, "rms_norm"}};
inline constexpr std::array feed_forward_names{
    std::pair{FeedForwardKind::relu, "relu"}, std::pair{FeedForwardKind::gelu_tanh, "gelu_tanh"},
    std::pair{FeedForwardKind::gelu_erf, "gelu_erf"}, std::pair{FeedForwardKind::swiglu, "swiglu"}};
inline constexpr std::array position_names{
    std::pair{PositionKind::sinusoidal, "sinusoidal"}, std::pair{PositionKind::learned, "learned"},
    std::pair{PositionKind::rope_half, "rope_half"}, std::pair{PositionKind::rope_interleaved, "rope_interleaved"}};

template <class Names, class Kind>
std::string_view name_of(const Names& names, Kind kind) {
  for (const auto& [value, name] : names)
    if (value == kind) return name;
  detail::fail<ArgumentError>("config", "unknown kind ", static_cast<int>(kind));
}
template <class Names>
auto kind_of(const Names& names, const std::string& text, std::string_view key, std::string_view context) {
  for (const auto& [value, name] : names)
    if (text == name) return value;
  detail::fail<FormatError>("config", context, ": ", key, " is unknown: ", io::quoted(text));
}

/// The one list of fields: calls f("n_heads", c.n_heads) for the numbers and bools of a config.
template <class Config, class F>
void visit_fields(Config& c, F&& f) {
  f("vocab_size", c.vocab_size);
  f("d_model", c.d_model);
  f("d_ff", c.d_ff);
  f("n_layers", c.n_layers);
  f("n_heads", c.n_heads);
  f("n_kv_heads", c.n_kv_heads);
  f("head_dim", c.head_dim);
  f("max_len", c.max_len);
  f("sliding_window", c.sliding_window);
  f("pre_norm", c.pre_norm);
  f("scale_embedding", c.scale_embedding);
  f("tie_head", c.tie_head);
  f("qkv_bias", c.qkv_bias);
  f("attention_out_bias", c.attention_out_bias);
  f("feed_forward_bias", c.feed_forward_bias);
  f("norm_bias", c.norm_bias);
  f("head_bias", c.head_bias);
}

}  // namespace storylm::detail

namespace storylm::io {

/// What a file needs to say about a model besides its weights.
struct ModelDescription {
  TransformerConfig config;    ///< its shape
  TransformerOptions options;  ///< of these norm_eps and rope_theta are stored
};

/// The largest number a stored config may have in any field: generous for models, too small for sizes to overflow.
inline constexpr int config_limit = 1 << 22;

/// One flat object: every field of the resolved config, and the options that a checkpoint keeps.
[[nodiscard]] inline boost::json::object config_to_json(const ModelDescription& model) {
  const TransformerConfig c = model.config.resolved();
  boost::json::object object;
  detail::visit_fields(c, [&](std::string_view name, const auto& value) { object[name] = value; });
  object["norm"] = detail::name_of(detail::norm_names, c.norm);
  object["feed_forward"] = detail::name_of(detail::feed_forward_names, c.feed_forward);
  object["positions"] = detail::name_of(detail::position_names, c.positions);
  object["norm_eps"] = model.options.norm_eps;
  object["rope_theta"] = model.options.rope_theta;
  return object;
}

/// @param context what the object belongs to, for errors
/// @throws FormatError naming the field that is missing, of another type, out of range or unknown
[[nodiscard]] inline ModelDescription config_from_json(const boost::json::object& object, std::string_view context) {
  ModelDescription model;
  TransformerConfig& c = model.config;
  detail::visit_fields(c, [&](std::string_view name, auto& value) {
    using Value = std::remove_reference_t<decltype(value)>;
    value = get<Value>(object, name, context);
    if constexpr (std::same_as<Value, int>)
      expects<FormatError>(value >= 0 && value <= config_limit, "config", context, ": ", name, " must be in [0, ",
                           config_limit, "]: ", value);
  });
  c.norm = detail::kind_of(detail::norm_names, get<std::string>(object, "norm", context), "norm", context);
  c.feed_forward = detail::kind_of(detail::feed_forward_names, get<std::string>(object, "feed_forward", context),
                                   "feed_forward", context);
  c.positions =
      detail::kind_of(detail::position_names, get<std::string>(object, "positions", context), "positions", context);
  model.options.norm_eps = get<double>(object, "norm_eps", context);
  model.options.rope_theta = get<double>(object, "rope_theta", context);
  model.options.initialisation = Initialisation::none;
  return model;
}

}  // namespace storylm::io
