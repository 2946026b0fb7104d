// SPDX-License-Identifier: MIT
/// @file
/// @brief The settings beside a tokenizer's model: what is accepted is what was written.
#include <optional>
#include <string>
#include <string_view>

#include <storylm/text/tokenizer_settings.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {
constexpr std::uint64_t model_hash = 0x0123456789ABCDEFU;
}

void run(std::string_view input) {
  const std::filesystem::path path = folder().write("bpe.settings.json", input);
  std::optional<TokenizerSettings> settings;
  const std::string message =
      refusal([&] { settings = read_tokenizer_settings(folder().path() / "bpe.model", model_hash); }, path.string());
  if (!message.empty()) return;
  must(settings.has_value() && settings->model_hash == model_hash, "settings without the model's hash");
  must(input.find(settings->lowercase ? "true" : "false") != input.npos, "lowercase out of nothing");
}

void seeds(Seeds& made) {
  made.add(to_json({.lowercase = true, .vocab_size = 512, .byte_fallback = false, .model_hash = model_hash}));
  made.add("{}");
  json_words(made);
  made.words({"\"lowercase\"", "\"format\"", "\"version\"", "\"model_hash\"", "\"0123456789abcdef\"",
              "\"storylm.tokenizer\""});
}

}  // namespace storylm::fuzz
