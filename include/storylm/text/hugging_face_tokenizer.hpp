// SPDX-License-Identifier: MIT
/// @file
/// @brief Finds out which tokenizer a folder or file holds, and loads it. Needs storylm::io and storylm::sentencepiece.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/io/tokenizer_files.hpp>
#include <storylm/text/added_tokens.hpp>
#include <storylm/text/any_tokenizer.hpp>
#include <storylm/text/byte_level_bpe.hpp>
#include <storylm/text/sentencepiece.hpp>

namespace storylm {

/// How load_tokenizer() makes a tokenizer.
struct LoadTokenizerOptions {
  bool parse_special = false;  ///< as in AddedTokensOptions: false, text is plain
};

/// A tokenizer, and what its folder says a model expects around a text. encode() itself adds nothing.
struct LoadedTokenizer {
  AnyTokenizer tokenizer;
  bool adds_bos = false;            ///< texts begin with BOS
  bool adds_bos_is_stated = false;  ///< by the folder; else it is the custom: yes for SentencePiece, no for GPT-2's BPE
  bool adds_eos = false;            ///< texts end in EOS
};

}  // namespace storylm

namespace storylm::detail {

/// Tokens to add to a tokenizer, with options that name the special ones.
struct NamedTokens {
  std::vector<AddedToken> tokens;
  AddedTokensOptions options;
};

/// What is known of a tokenizer's own vocabulary.
struct OwnVocabulary {
  std::function<std::optional<token_t>(std::string_view text)> id_of;
  std::function<std::optional<std::string>(token_t id)> text_of;  // nothing: there is none with that id
};

/// Brings together what the files say of added and special tokens; `folder` begins messages. @throws FormatError when
/// they contradict each other or the vocabulary, or name a special token that has no id
[[nodiscard]] inline NamedTokens name_tokens(const std::string& folder, const io::TokenizerConfig& config,
                                             std::vector<AddedToken> added, const OwnVocabulary& own) {
  constexpr std::string_view op = "tokenizer";
  NamedTokens named;
  const auto find = [&](std::string_view text) {
    return std::find_if(named.tokens.begin(), named.tokens.end(),
                        [&](const auto& token) { return token.text == text; });
  };
  added.insert(added.end(), config.added.begin(), config.added.end());
  for (const AddedToken& token : added) {
    if (const auto known = find(token.text); known != named.tokens.end()) {
      expects<FormatError>(known->id == token.id, op, folder, ": the added token \"", token.text, "\" has the ids ",
                           known->id, " and ", token.id);
      known->special = known->special || token.special;
      continue;
    }
    for (const AddedToken& other : named.tokens) {
      expects<FormatError>(other.id != token.id, op, folder, ": the added tokens \"", other.text, "\" and \"",
                           token.text, "\" have the same id, ", token.id);
    }
    const std::optional<std::string> text = own.text_of(token.id);
    expects<FormatError>(!text.has_value() || *text == token.text, op, folder, ": the added token \"", token.text,
                         "\" has the id ", token.id, ", which is that of \"", text.value_or(""),
                         "\" in the vocabulary");
    const std::optional<token_t> id = own.id_of(token.text);
    expects<FormatError>(!id.has_value() || *id == token.id, op, folder, ": the added token \"", token.text,
                         "\" has the id ", token.id, ", in the vocabulary it has ", id.value_or(-1));
    named.tokens.push_back(token);
  }
  // A special token is one of the above or of the vocabulary's.
  const auto special = [&](std::string_view role, const std::string& text) {
    if (const auto known = find(text); known != named.tokens.end()) {
      known->special = true;
      return known->id;
    }
    const std::optional<token_t> id = own.id_of(text);
    expects<FormatError>(id.has_value(), op, folder, ": ", role, " is \"", text,
                         "\", which is neither in the vocabulary nor an added token with an id");
    named.tokens.push_back({.text = text, .id = *id, .special = true});
    return *id;
  };
  const auto resolve = [&](std::string_view role, const std::optional<std::string>& text) {
    std::optional<token_t> id;
    if (text.has_value()) id = text->empty() ? token_t{-1} : special(role, *text);
    return id;
  };
  named.options.bos = resolve("bos_token", config.bos);
  named.options.eos = resolve("eos_token", config.eos);
  named.options.pad = resolve("pad_token", config.pad);
  named.options.unk = resolve("unk_token", config.unk);
  for (const std::string& text : config.special) special("a special token", text);
  return named;
}

/// GPT-2's kind: from tokenizer.json, or else from vocab.json and merges.txt.
[[nodiscard]] inline LoadedTokenizer load_byte_level_bpe(const std::filesystem::path& folder,
                                                         const LoadTokenizerOptions& options) {
  io::TokenizerConfig config = io::read_tokenizer_config(folder);
  io::TokenizerJson json;
  io::ByteLevelBpeFile file;
  if (is_file(folder / "tokenizer.json")) {
    json = io::read_tokenizer_json(folder / "tokenizer.json");
    file = io::byte_level_bpe_of(json);
  } else {
    file = io::read_vocab_and_merges(folder / "vocab.json", folder / "merges.txt");
  }
  if (config.add_prefix_space.has_value()) file.options.add_prefix_space = *config.add_prefix_space;

  const auto& vocabulary = file.pairs.vocabulary;
  const OwnVocabulary own{.id_of = [&](std::string_view text) -> std::optional<token_t> {
                            const auto found = std::find_if(vocabulary.begin(), vocabulary.end(),
                                                            [&](const auto& t) { return t.first == text; });
                            return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
                          },
                          .text_of = [&](token_t id) -> std::optional<std::string> {
                            const auto found = std::find_if(vocabulary.begin(), vocabulary.end(),
                                                            [&](const auto& t) { return t.second == id; });
                            return found == vocabulary.end() ? std::nullopt : std::optional(found->first);
                          }};
  // What GPT-2's class of transformers takes where nothing is said.
  const std::string end_of_text = "<|endoftext|>";
  const bool has_it =
      own.id_of(end_of_text).has_value() ||
      std::any_of(json.added.begin(), json.added.end(), [&](const auto& t) { return t.text == end_of_text; });
  for (std::optional<std::string>* const token : {&config.bos, &config.eos}) {
    if (!token->has_value() && has_it) *token = end_of_text;
  }
  NamedTokens named = name_tokens(folder.string(), config, json.added, own);
  named.options.parse_special = options.parse_special;
  const std::optional<bool> adds_bos = config.add_bos_token.has_value() ? config.add_bos_token : json.adds_bos;
  return {.tokenizer = WithAddedTokens(ByteLevelBpe(file.pairs, file.options), std::move(named.tokens), named.options),
          .adds_bos = adds_bos.value_or(false),
          .adds_bos_is_stated = adds_bos.has_value(),
          .adds_eos = config.add_eos_token.value_or(json.adds_eos.value_or(false))};
}

/// `tokenizer` that puts no space before the first word: its model with add_dummy_prefix (field 3 of normalizer_spec,
/// field 3 of the model) set to false. Protocol buffers that follow each other are one, and the last value counts.
[[nodiscard]] inline SentencePieceTokenizer without_prefix(const SentencePieceTokenizer& tokenizer) {
  constexpr std::string_view no_prefix("\x1A\x02\x18\x00", 4);
  return SentencePieceTokenizer(tokenizer.model_bytes() + std::string(no_prefix), tokenizer.lowercase());
}

/// Llama's and Mistral's kind: tokenizer.model, and added tokens wherever they are written.
[[nodiscard]] inline LoadedTokenizer load_sentencepiece(const std::filesystem::path& folder,
                                                        const LoadTokenizerOptions& options) {
  const io::TokenizerConfig config = io::read_tokenizer_config(folder);
  io::TokenizerJson json;
  if (is_file(folder / "tokenizer.json")) json = io::read_tokenizer_json(folder / "tokenizer.json");
  SentencePieceTokenizer tokenizer = SentencePieceTokenizer::load(folder / "tokenizer.model");
  const auto size = static_cast<token_t>(tokenizer.vocab_size());
  const OwnVocabulary own{
      .id_of = [&](std::string_view text) -> std::optional<token_t> {
        for (token_t id = 0; id < size; ++id) {
          if (tokenizer.piece(id) == text) return id;
        }
        return std::nullopt;
      },
      .text_of = [&](token_t id) { return id < size ? std::optional(tokenizer.piece(id)) : std::nullopt; }};
  NamedTokens named = name_tokens(folder.string(), config, json.added, own);
  named.options.parse_special = options.parse_special;
  named.options.text_begins_anew = config.legacy.value_or(false);
  const std::optional<bool> adds_bos = config.add_bos_token.has_value() ? config.add_bos_token : json.adds_bos;
  const auto loaded = [&](AnyTokenizer made) {
    return LoadedTokenizer{.tokenizer = std::move(made),
                           .adds_bos = adds_bos.value_or(true),
                           .adds_bos_is_stated = adds_bos.has_value(),
                           .adds_eos = config.add_eos_token.value_or(json.adds_eos.value_or(false))};
  };
  SentencePieceTokenizer continuation = without_prefix(tokenizer);
  if (!config.add_prefix_space.value_or(true)) tokenizer = continuation;
  if (named.tokens.empty()) return loaded(std::move(tokenizer));
  return loaded(WithAddedTokens(std::move(tokenizer), std::move(named.tokens), named.options,
                                std::optional(std::move(continuation))));
}

}  // namespace storylm::detail

namespace storylm {

/// Loads the tokenizer of a Hugging Face folder, or a SentencePiece model of one's own with its settings beside it.
///
/// In a folder, `tokenizer.model` is SentencePiece, and without it `tokenizer.json` or `vocab.json` with `merges.txt`
/// is GPT-2's byte-level BPE; added and special tokens come from these, tokenizer_config.json, special_tokens_map.json
/// and added_tokens.json. Text behind a special token goes on without a space in between as transformers 5 has it; with
/// "legacy": true in tokenizer_config.json it begins with one, as in transformers 4. decode() gives the text as it is:
/// "clean_up_tokenization_spaces" is for people. @throws IoError when a file cannot be read, FormatError when one is
/// damaged, contradicts another or describes a tokenizer of another kind
[[nodiscard]] inline LoadedTokenizer load_tokenizer(const std::filesystem::path& folder_or_model,
                                                    const LoadTokenizerOptions& options = {}) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder_or_model, ignored)) {
    if (folder_or_model.extension() == ".json") {  // a file of a folder is the folder
      return load_tokenizer(folder_or_model.has_parent_path() ? folder_or_model.parent_path() : ".", options);
    }
    return {.tokenizer = SentencePieceTokenizer::load(folder_or_model), .adds_bos = true};
  }
  const auto has = [&](const char* file) { return detail::is_file(folder_or_model / file); };
  if (has("tokenizer.model")) return detail::load_sentencepiece(folder_or_model, options);
  expects<IoError>(has("tokenizer.json") || (has("vocab.json") && has("merges.txt")), "tokenizer", folder_or_model,
                   " holds no tokenizer: expected tokenizer.model, tokenizer.json, or vocab.json and merges.txt");
  return detail::load_byte_level_bpe(folder_or_model, options);
}

}  // namespace storylm
