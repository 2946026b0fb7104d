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
    table << "  " << std::left << std::setw(14) << name << std::right << std::setw(7) << C.vocab_size << std::setw(6)
          << C.d_model << std::setw(4) << C.n_layers << std::setw(4) << C.n_heads << std::setw(6) << C.max_len
          << std::setw(12) << storylm::parameter_count(C) << '\n';
  });
  table << "More with cmake -DSTORYLM_PRESETS=\"NAME:vocab_size=...,d_model=...,d_ff=...,n_layers=...,n_heads=...,"
           "max_len=...;...\"";
  return table.str();
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
    storylm::expects<storylm::ArgumentError>(
        C.vocab_size == vocab_size, "preset", "the tokenizer has ", vocab_size, " pieces, model ", name, " needs ",
        C.vocab_size, ": make the tokenizer with --vocab-size ", C.vocab_size,
        ", or add a preset: cmake -S . -B build -DSTORYLM_PRESETS=\"mine:vocab_size=", vocab_size,
        ",d_model=", C.d_model, ",d_ff=", C.hidden(), ",n_layers=", C.n_layers, ",n_heads=", C.n_heads,
        ",max_len=", C.max_len, "\" and build again");
    f.template operator()<C>();
  });
  storylm::expects<storylm::ArgumentError>(found, "preset", "there is no model ", wanted, ": there are ", names);
}

}  // namespace program
