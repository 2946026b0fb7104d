// SPDX-License-Identifier: MIT
/// @file
/// @brief Finds out which tokenizer a folder or file holds, and loads it. Needs storylm::io and storylm::sentencepiece.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/io/sentencepiece_model.hpp>
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
  AnyTokenizer tokenizer;           ///< with the added tokens of its folder
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

/// A tokenizer's own tokens, found by text and by id.
class OwnVocabulary {
 public:
  void add(std::string_view text, token_t id) {
    ids_.emplace(text, id);
    texts_.emplace(id, text);
  }
  [[nodiscard]] std::optional<token_t> id_of(std::string_view text) const { return find_in(ids_, text); }
  [[nodiscard]] std::optional<std::string_view> text_of(token_t id) const { return find_in(texts_, id); }

 private:
  template <class Map, class Key>
  static std::optional<typename Map::mapped_type> find_in(const Map& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? std::nullopt : std::optional(found->second);
  }

  std::unordered_map<std::string_view, token_t> ids_;
  std::unordered_map<token_t, std::string_view> texts_;
};

/// Brings together what the files say of added and special tokens; `folder` begins messages. @throws FormatError when
/// they contradict each other or the vocabulary, or name a special token that has no id
[[nodiscard]] inline NamedTokens name_tokens(const std::string& folder, const io::TokenizerConfig& config,
                                             std::vector<AddedToken> added, const OwnVocabulary& own) {
  constexpr std::string_view op = "tokenizer";
  NamedTokens named;
  std::unordered_map<std::string, std::size_t> by_text;  // their places in named.tokens
  std::unordered_map<token_t, std::size_t> by_id;
  const auto keep = [&](const AddedToken& token) {
    by_text.emplace(token.text, named.tokens.size());
    by_id.emplace(token.id, named.tokens.size());
    named.tokens.push_back(token);
  };
  added.insert(added.end(), config.added.begin(), config.added.end());
  for (const AddedToken& token : added) {
    const ShownToken shown{token.text};
    if (const auto known = by_text.find(token.text); known != by_text.end()) {
      AddedToken& same = named.tokens[known->second];
      expects<FormatError>(same.id == token.id, op, folder, ": the added token ", shown, " has the ids ", same.id,
                           " and ", token.id);
      same.special = same.special || token.special;
      continue;
    }
    const auto other = by_id.find(token.id);
    expects<FormatError>(other == by_id.end(), op, folder, ": the added tokens ",
                         ShownToken{other == by_id.end() ? "" : named.tokens[other->second].text}, " and ", shown,
                         " have the same id, ", token.id);
    const std::optional<std::string_view> text = own.text_of(token.id);
    expects<FormatError>(!text.has_value() || *text == token.text, op, folder, ": the added token ", shown,
                         " has the id ", token.id, ", which is that of ", ShownToken{text.value_or("")},
                         " in the vocabulary");
    const std::optional<token_t> id = own.id_of(token.text);
    expects<FormatError>(!id.has_value() || *id == token.id, op, folder, ": the added token ", shown, " has the id ",
                         token.id, ", in the vocabulary it has ", id.value_or(-1));
    keep(token);
  }
  // A special token is one of the above or of the vocabulary's.
  const auto special = [&](std::string_view role, const std::string& text) {
    if (const auto known = by_text.find(text); known != by_text.end()) {
      named.tokens[known->second].special = true;
      return named.tokens[known->second].id;
    }
    const std::optional<token_t> id = own.id_of(text);
    expects<FormatError>(id.has_value(), op, folder, ": ", role, " is ", ShownToken{text},
                         ", which is neither in the vocabulary nor an added token with an id");
    keep({.text = text, .id = *id, .special = true});
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
  for (const std::string& text : config.special) {
    if (!text.empty()) special("a special token", text);
  }
  return named;
}

/// What the post-processor of a tokenizer.json puts around a text must be what the folder calls BOS and EOS, for that
/// is what programs put there. @throws FormatError
inline void expect_template(const io::TokenizerJson& json, const NamedTokens& named, const OwnVocabulary& own,
                            token_t own_bos, token_t own_eos) {
  const auto id_of = [&](const std::string& text) {
    const auto added = std::find_if(named.tokens.begin(), named.tokens.end(),
                                    [&](const AddedToken& token) { return token.text == text; });
    return added != named.tokens.end() ? added->id : own.id_of(text).value_or(-1);
  };
  const auto expect = [&](const std::string& text, token_t id, std::string_view where, std::string_view role) {
    if (text.empty()) return;
    expects<FormatError>(id >= 0 && id_of(text) == id, "tokenizer", json.name, ": the post-processor puts ",
                         ShownToken{text}, ' ', where, " a text, which is not its ", role);
  };
  expect(json.before, named.options.bos.value_or(own_bos), "before", "BOS");
  expect(json.behind, named.options.eos.value_or(own_eos), "behind", "EOS");
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
  const std::string& stated = config.tokenizer_class;
  const bool is_gpt2 = stated.empty() || stated == "GPT2Tokenizer" || stated == "GPT2TokenizerFast";
  if (config.add_prefix_space.has_value() && (is_gpt2 || json.name.empty())) {  // others go by tokenizer.json
    file.options.add_prefix_space = *config.add_prefix_space;
  }

  OwnVocabulary own;
  for (const auto& [token, id] : file.pairs.vocabulary) own.add(token, id);
  // What GPT-2's class of transformers takes where nothing is said; other classes take none.
  const std::string end_of_text = "<|endoftext|>";
  const auto in = [&](const std::vector<AddedToken>& tokens) {
    return std::any_of(tokens.begin(), tokens.end(), [&](const auto& token) { return token.text == end_of_text; });
  };
  const bool has_it = own.id_of(end_of_text).has_value() || in(json.added) || in(config.added);
  for (std::optional<std::string>* const token : {&config.bos, &config.eos}) {
    if (!token->has_value() && has_it && is_gpt2) *token = end_of_text;
  }
  NamedTokens named = name_tokens(folder.string(), config, json.added, own);
  expect_template(json, named, own, -1, -1);
  named.options.parse_special = options.parse_special;
  const std::optional<bool> adds_bos = config.add_bos_token.has_value() ? config.add_bos_token : json.adds_bos;
  return {.tokenizer = WithAddedTokens(ByteLevelBpe(file.pairs, file.options), std::move(named.tokens), named.options),
          .adds_bos = adds_bos.value_or(false),
          .adds_bos_is_stated = adds_bos.has_value(),
          .adds_eos = config.add_eos_token.value_or(json.adds_eos.value_or(false))};
}

/// `tokenizer` with or without a space before the first word: its model with add_dummy_prefix (field 3 of
/// normalizer_spec, field 3 of the model) set. Protocol buffers that follow each other are one, and the last value
/// counts.
[[nodiscard]] inline SentencePieceTokenizer with_prefix(const SentencePieceTokenizer& tokenizer, bool prefix) {
  const std::string setting{'\x1A', '\x02', '\x18', prefix ? '\x01' : '\x00'};
  return SentencePieceTokenizer(tokenizer.model_bytes() + setting, tokenizer.lowercase());
}

/// The vocabulary of a tokenizer.json beside a tokenizer.model must be its pieces, for it is these that are read.
/// @throws FormatError naming the first token that is not
inline void expect_pieces(const io::TokenizerJson& json, const SentencePieceTokenizer& tokenizer) {
  const TokenizerReader reader(json.name);
  const auto is_added = [&](std::string_view text, token_t id) {
    return std::any_of(json.added.begin(), json.added.end(),
                       [&](const AddedToken& token) { return token.text == text && token.id == id; });
  };
  std::vector<bool> seen(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (const auto& [text, id] : reader.sentencepiece_vocabulary(json.document)) {
    if (id >= 0 && id < tokenizer.vocab_size() && tokenizer.piece(id) == text) {
      seen[static_cast<std::size_t>(id)] = true;
      continue;
    }
    if (id >= tokenizer.vocab_size() && is_added(text, id)) continue;
    const bool is_piece = id >= 0 && id < tokenizer.vocab_size();
    reader.refuse(io::quoted(text) + " has the id " + std::to_string(id) + ", in tokenizer.model " +
                  (is_piece ? "that is " + io::quoted(tokenizer.piece(id)) : std::string("there is none such")));
  }
  for (token_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (seen[static_cast<std::size_t>(id)] || is_added(tokenizer.piece(id), id)) continue;
    reader.refuse("the vocabulary lacks " + io::quoted(tokenizer.piece(id)) + ", which has the id " +
                  std::to_string(id) + " in tokenizer.model");
  }
}

/// Whether transformers 5 makes the tokenizer of `folder` of what tokenizer_config.json says, not of the parts of
/// tokenizer.json: Llama's class does. It is not used for Mistral's models, many of which name it.
[[nodiscard]] inline bool config_counts(const std::filesystem::path& folder, const io::TokenizerConfig& config) {
  if (config.tokenizer_class != "LlamaTokenizer" && config.tokenizer_class != "LlamaTokenizerFast") return false;
  const std::filesystem::path path = folder / "config.json";
  if (!is_file(path)) return true;
  const boost::json::value document = io::read_json(path);
  return io::find<std::string>(io::as_object(document, path.string()), "model_type", path.string()) != "mistral";
}

/// Llama's and Mistral's kind: tokenizer.model, and added tokens wherever they are written.
[[nodiscard]] inline LoadedTokenizer load_sentencepiece(const std::filesystem::path& folder,
                                                        const LoadTokenizerOptions& options) {
  io::TokenizerConfig config = io::read_tokenizer_config(folder);
  io::TokenizerJson json;
  SentencePieceTokenizer tokenizer = SentencePieceTokenizer::load(folder / "tokenizer.model");
  if (is_file(folder / "tokenizer.json")) {
    json = io::read_tokenizer_json(folder / "tokenizer.json");
    expect_pieces(json, tokenizer);
    if (!config_counts(folder, config)) {
      const io::PrefixSpace space = TokenizerReader(json.name).prefix_space(json.document);
      config.add_prefix_space = space.before_text;
      config.legacy = space.behind_special_tokens;
    }
  }
  OwnVocabulary own;
  for (token_t id = 0; id < tokenizer.vocab_size(); ++id) own.add(tokenizer.piece(id), id);
  NamedTokens named = name_tokens(folder.string(), config, json.added, own);
  expect_template(json, named, own, tokenizer.bos(), tokenizer.eos());
  named.options.parse_special = options.parse_special;
  named.options.text_begins_anew = config.legacy.value_or(false);
  const std::optional<bool> adds_bos = config.add_bos_token.has_value() ? config.add_bos_token : json.adds_bos;
  const auto loaded = [&](AnyTokenizer made) {
    return LoadedTokenizer{.tokenizer = std::move(made),
                           .adds_bos = adds_bos.value_or(true),
                           .adds_bos_is_stated = adds_bos.has_value(),
                           .adds_eos = config.add_eos_token.value_or(json.adds_eos.value_or(false))};
  };
  SentencePieceTokenizer continuation = with_prefix(tokenizer, false);
  if (config.add_prefix_space.has_value()) {
    const bool own_prefix = io::read_sentencepiece_model(tokenizer.model_bytes(), "tokenizer.model").add_dummy_prefix;
    if (*config.add_prefix_space != own_prefix) tokenizer = with_prefix(tokenizer, *config.add_prefix_space);
  }
  const auto& given = named.options;
  const bool stated = given.bos.has_value() || given.eos.has_value() || given.pad.has_value() || given.unk.has_value();
  if (named.tokens.empty() && !stated) return loaded(std::move(tokenizer));
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
/// "legacy": true in tokenizer_config.json it begins with one, as in transformers 4. A tokenizer.json beside
/// tokenizer.model must have its pieces, and it says where spaces are put, except to Llama's class. decode() gives the
/// text as it is: "clean_up_tokenization_spaces" is for people. @throws IoError when a file cannot be read, FormatError
/// when one is damaged, contradicts another or describes a tokenizer of another kind
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
