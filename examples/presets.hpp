// SPDX-License-Identifier: MIT
/// @file
/// @brief The shapes that programs train: the library's and those of -DSTORYLM_PRESETS, each instantiated at compile
/// time and found by name at run time.
#pragma once

#include <cstddef>
#include <iomanip>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include <storylm_user_presets.hpp>

#include <storylm/core/error.hpp>
#include <storylm/models/presets.hpp>

namespace program {

/// Calls f.template operator()<config>(name) for every preset.
template <class F>
constexpr void for_each_preset(F&& f) {
  constexpr auto& presets = storylm::presets::trainable;
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<presets[I].config>(presets[I].name), ...); }
  (std::make_index_sequence<presets.size()>{});
  storylm::presets::user::for_each_preset(f);
}

/// The table that --help prints.
inline std::string preset_table() {
  std::ostringstream table;
  table << "Models (name, vocabulary, width, layers, heads, longest sequence, parameters):\n";
  for_each_preset([&]<storylm::TransformerConfig C>(std::string_view name) {
    table << "  " << std::left << std::setw(16) << name << std::right << std::setw(7) << C.vocab_size << std::setw(6)
          << C.d_model << std::setw(4) << C.n_layers << std::setw(4) << C.n_heads << std::setw(6) << C.max_len
          << std::setw(12) << storylm::parameter_count(C) << '\n';
  });
  table << "More with cmake -DSTORYLM_PRESETS=\"NAME:vocab_size=...,d_model=...,d_ff=...,n_layers=...,n_heads=...,"
           "max_len=...;...\"";
  return table.str();
}

/// A shape as STORYLM_PRESETS takes it: the sizes, and where it is another architecture than story_24m's the rest.
inline std::string preset_fields(const storylm::TransformerConfig& c) {
  using storylm::FeedForwardKind, storylm::NormKind, storylm::PositionKind;
  std::string text;
  const auto add = [&text](std::string_view name, std::string_view value) {
    text += (text.empty() ? "" : ",") + std::string(name) + '=' + std::string(value);
  };
  const auto number = [&](std::string_view name, int value) { add(name, std::to_string(value)); };
  const auto flag = [&](std::string_view name, bool value, bool usual) {
    if (value != usual) add(name, value ? "true" : "false");
  };
  number("vocab_size", c.vocab_size);
  number("d_model", c.d_model);
  number("d_ff", c.hidden());
  number("n_layers", c.n_layers);
  number("n_heads", c.n_heads);
  number("max_len", c.max_len);
  if (c.n_kv_heads != 0) number("n_kv_heads", c.n_kv_heads);
  if (c.head_dim != 0) number("head_dim", c.head_dim);
  if (c.sliding_window != 0) number("sliding_window", c.sliding_window);
  if (c.norm == NormKind::rms_norm) add("norm", "NormKind::rms_norm");
  if (c.feed_forward != FeedForwardKind::relu) {
    add("feed_forward", c.feed_forward == FeedForwardKind::swiglu      ? "FeedForwardKind::swiglu"
                        : c.feed_forward == FeedForwardKind::gelu_tanh ? "FeedForwardKind::gelu_tanh"
                                                                       : "FeedForwardKind::gelu_erf");
  }
  if (c.positions != PositionKind::sinusoidal) {
    add("positions", c.positions == PositionKind::learned     ? "PositionKind::learned"
                     : c.positions == PositionKind::rope_half ? "PositionKind::rope_half"
                                                              : "PositionKind::rope_interleaved");
  }
  flag("pre_norm", c.pre_norm, false);
  flag("scale_embedding", c.scale_embedding, true);
  flag("tie_head", c.tie_head, false);
  flag("qkv_bias", c.qkv_bias, true);
  flag("attention_out_bias", c.attention_out_bias, true);
  flag("feed_forward_bias", c.feed_forward_bias, true);
  flag("norm_bias", c.norm_bias, true);
  flag("head_bias", c.head_bias, true);
  return text;
}

/// Calls f.template operator()<config>() for the preset of that name, whose vocabulary must be the tokenizer's.
/// @throws ArgumentError when there is no such preset, or its vocabulary is another
template <class F>
void with_preset(std::string_view wanted, storylm::index_t vocab_size, F&& f) {
  bool found = false;
  std::string names;
  for_each_preset([&]<storylm::TransformerConfig C>(std::string_view name) {
    names += (names.empty() ? "" : ", ") + std::string(name);
    if (name != wanted || found) return;
    found = true;
    storylm::TransformerConfig mine = C;
    mine.vocab_size = static_cast<int>(vocab_size);
    storylm::expects<storylm::ArgumentError>(
        C.vocab_size == vocab_size, "preset", "the tokenizer has ", vocab_size, " pieces, model ", name, " needs ",
        C.vocab_size, ": make the tokenizer with --vocab-size ", C.vocab_size,
        ", or add a preset: cmake -S . -B build -DSTORYLM_PRESETS=\"mine:", preset_fields(mine), "\" and build again");
    f.template operator()<C>();
  });
  storylm::expects<storylm::ArgumentError>(found, "preset", "there is no model ", wanted, ": there are ", names);
}

}  // namespace program
