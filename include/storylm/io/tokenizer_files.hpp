// SPDX-License-Identifier: MIT
/// @file
/// @brief The files of Hugging Face's tokenizers, read as if an enemy wrote them: tokenizer.json, vocab.json and
/// merges.txt, tokenizer_config.json, special_tokens_map.json, added_tokens.json.
///
/// The formats are those of https://github.com/huggingface/tokenizers (0.23) and of `transformers` 4 and 5. What they
/// may say and ByteLevelBpe does not do is refused by its name, never ignored.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/io/json.hpp>
#include <storylm/text/added_tokens.hpp>
#include <storylm/text/byte_level_bpe.hpp>

namespace storylm::io {

/// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say that concerns ids.
struct TokenizerConfig {
  std::string tokenizer_class;           ///< of transformers; "": not stated
  std::optional<bool> add_bos_token;     ///< nothing: not stated, as in all of these
  std::optional<bool> add_eos_token;     ///< texts end in EOS
  std::optional<bool> add_prefix_space;  ///< texts begin with a space
  std::optional<bool> legacy;            ///< of Llama: text behind a special token begins with a space again
  std::optional<std::string> bos;        ///< its text; "": there is none, like the next three
  std::optional<std::string> eos;        ///< ends a text
  std::optional<std::string> pad;        ///< fills up
  std::optional<std::string> unk;        ///< stands for what the vocabulary cannot spell
  std::vector<std::string> special;      ///< further special tokens
  std::vector<AddedToken> added;         ///< with their ids
};

/// A tokenizer.json: the document, and what concerns every kind of tokenizer.
struct TokenizerJson {
  boost::json::object document;   ///< the whole file
  std::string name;               ///< its path
  std::vector<AddedToken> added;  ///< of "added_tokens"
  std::optional<bool> adds_bos;   ///< whether its post-processor does, where it has one that could
  std::optional<bool> adds_eos;   ///< likewise
  std::string before;             ///< the text of the token that it puts before a text; "": none
  std::string behind;             ///< likewise
};

/// What makes a ByteLevelBpe.
struct ByteLevelBpeFile {
  BytePairs pairs;              ///< vocabulary and merges
  ByteLevelBpeOptions options;  ///< without special tokens, which are named elsewhere
};

/// Where a tokenizer.json made from a SentencePiece model puts a space.
struct PrefixSpace {
  bool before_text = false;            ///< that does not begin with one
  bool behind_special_tokens = false;  ///< before the text that follows one, too
};

}  // namespace storylm::io

namespace storylm::detail {

/// Reads parts of the files; `name` is the path that messages begin with.
class TokenizerReader {
 public:
  using Object = boost::json::object;
  using Value = boost::json::value;
  static constexpr std::string_view op = "tokenizer";

  explicit TokenizerReader(std::string name) : name_(std::move(name)) {}

  [[noreturn]] void refuse(const std::string& why) const { fail<FormatError>(op, name_, ": ", why); }

  /// Refuses what `object`, which messages call `what`, has beside `known` keys.
  void only(const Object& object, std::string_view what, std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : object) {
      const std::string_view text(key.data(), key.size());
      if (std::find(known.begin(), known.end(), text) == known.end()) {
        refuse(std::string(what) + " has " + io::quoted(text) + ", which is not known");
      }
    }
  }
  /// The type of a normalizer, pre-tokenizer, decoder ...
  [[nodiscard]] std::string type_of(const Object& object) const { return io::get<std::string>(object, "type", name_); }

  /// Field `key` of `document` without the sequences around its parts; empty where it is null or not there.
  [[nodiscard]] std::vector<Object> parts(const Object& document, std::string_view key, std::string_view list) const {
    std::vector<Object> found;
    if (const auto object = io::find<Object>(document, key, name_); object.has_value()) flatten(*object, list, found);
    return found;
  }

  /// One token of "added_tokens" or "added_tokens_decoder"; `id` where it is not said inside.
  [[nodiscard]] AddedToken added_token(const Object& object, std::optional<token_t> id) const {
    only(object, "an added token",
         {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type"});
    const auto flag = [&](std::string_view key) { return io::find<bool>(object, key, name_).value_or(false); };
    AddedToken token;
    token.text = io::get<std::string>(object, "content", name_);
    token.id = id.has_value() ? *id : io::get<token_t>(object, "id", name_);
    const std::string what = "the added token " + io::quoted(token.text);
    if (token.text.empty()) refuse("an added token with id " + std::to_string(token.id) + " has no text");
    if (token.id < 0) refuse(what + " has the id " + std::to_string(token.id) + ", which is negative");
    if (flag("single_word")) refuse(what + " is a \"single_word\", which is not supported");
    token.left_strip = flag("lstrip");
    token.right_strip = flag("rstrip");
    token.normalized = flag("normalized");
    token.special = flag("special");
    return token;
  }

  /// A special token as the files name it: text, an object with "content", or null. Nothing: it is not there.
  [[nodiscard]] std::optional<std::string> special_token(const Object& object, std::string_view key) const {
    const Value* const value = object.if_contains({key.data(), key.size()});
    if (value == nullptr) return std::nullopt;
    return value->is_null() ? std::string() : token_text(*value, key);
  }
  [[nodiscard]] std::string token_text(const Value& value, std::string_view key) const {
    if (value.is_object()) return io::get<std::string>(value.get_object(), "content", name_);
    return json_as<std::string>(value, io::quoted(key), name_);
  }

  /// An id that is a key of a JSON object.
  [[nodiscard]] token_t id_of_key(std::string_view key) const {
    token_t id = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size() || id < 0) {
      refuse("\"added_tokens_decoder\" has the key " + io::quoted(key) + ", which is no id");
    }
    return id;
  }

  /// Whether the post-processor puts special tokens around a text.
  void read_post_processor(io::TokenizerJson& json) const {
    for (const Object& part : parts(json.document, "post_processor", "processors")) {
      const std::string type = type_of(part);
      if (type == "ByteLevel") continue;  // changes offsets only
      if (type != "TemplateProcessing") refuse("the post-processor " + io::quoted(type) + " is not supported");
      const auto items = io::get<std::vector<Object>>(part, "single", name_);
      const auto is_text = [](const Object& item) { return item.contains("Sequence"); };
      const auto text = std::find_if(items.begin(), items.end(), is_text);
      const auto before = text - items.begin();
      const auto behind = items.end() - text - 1;
      if (text == items.end() || before > 1 || behind > 1) {
        refuse("the post-processor's template is not a text with at most one token before and one behind it");
      }
      json.adds_bos = before == 1;
      json.adds_eos = behind == 1;
      if (before == 1) json.before = template_token(items.front());
      if (behind == 1) json.behind = template_token(items.back());
    }
  }

  /// Refuses a tokenizer that was made from a SentencePiece model, and says what to do.
  void refuse_sentencepiece(const Object& document, const Object& model) const {
    const std::string type = io::find<std::string>(model, "type", name_).value_or("BPE");
    std::string sign;
    if (type == "Unigram") sign = "the model \"Unigram\"";
    if (io::find<bool>(model, "byte_fallback", name_).value_or(false)) sign = "\"byte_fallback\"";
    for (const auto& [key, list] :
         {std::pair{"normalizer", "normalizers"}, {"pre_tokenizer", "pretokenizers"}, {"decoder", "decoders"}}) {
      for (const Object& part : parts(document, key, list)) {
        const std::string what = type_of(part);
        if (what == "Metaspace" || what == "Precompiled" || what == "Prepend") sign = io::quoted(what);
      }
    }
    if (sign.empty()) return;
    refuse("it holds a SentencePiece vocabulary (" + sign +
           "), which is read from the tokenizer.model that it was made from: put that file beside it");
  }

  /// How text is cut, of "pre_tokenizer"; checks "normalizer" and "decoder". "truncation" and "padding" say what a
  /// caller once asked for; transformers sets them anew in each call, and so do they not count here.
  [[nodiscard]] ByteLevelBpeOptions read_pipeline(const Object& document) const {
    for (const Object& part : parts(document, "normalizer", "normalizers")) {
      refuse("the normalizer " + io::quoted(type_of(part)) + " is not supported; byte-level BPE has none");
    }
    const auto decoders = parts(document, "decoder", "decoders");
    for (const Object& part : decoders) {
      if (type_of(part) != "ByteLevel") refuse("the decoder " + io::quoted(type_of(part)) + " is not supported");
    }
    const auto cutters = parts(document, "pre_tokenizer", "pretokenizers");
    for (const Object& part : cutters) {
      if (type_of(part) != "ByteLevel") refuse("the pre-tokenizer " + io::quoted(type_of(part)) + " is not supported");
      only(part, "the pre-tokenizer", {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    }
    if (decoders.size() != 1 || cutters.size() != 1) {
      refuse("it has " + std::to_string(cutters.size()) + " pre-tokenizers and " + std::to_string(decoders.size()) +
             " decoders of type \"ByteLevel\", expected one of each");
    }
    ByteLevelBpeOptions options;
    options.add_prefix_space = io::get<bool>(cutters[0], "add_prefix_space", name_);
    options.use_regex = io::find<bool>(cutters[0], "use_regex", name_).value_or(true);
    return options;
  }

  /// The object "model".
  [[nodiscard]] const Object& model_of(const Object& document) const {
    const Value* const value = document.if_contains("model");
    if (value == nullptr || !value->is_object()) refuse("\"model\" is missing or no object");
    return value->get_object();
  }

  /// What is said of the space before texts, by "normalizer" in older files and "pre_tokenizer" in newer ones.
  [[nodiscard]] io::PrefixSpace prefix_space(const Object& document) const {
    io::PrefixSpace space;
    for (const Object& part : parts(document, "normalizer", "normalizers")) {
      if (type_of(part) != "Prepend") continue;
      const auto prefix = io::get<std::string>(part, "prepend", name_);
      if (prefix != "\u2581" && prefix != " ") {
        refuse("\"Prepend\" puts " + io::quoted(prefix) + " before a text, expected \"\u2581\"");
      }
      space = {.before_text = true, .behind_special_tokens = true};
    }
    for (const Object& part : parts(document, "pre_tokenizer", "pretokenizers")) {
      if (type_of(part) != "Metaspace") continue;
      const bool is_put = io::find<bool>(part, "add_prefix_space", name_).value_or(true);  // of older files
      const auto scheme = io::find<std::string>(part, "prepend_scheme", name_).value_or(is_put ? "always" : "never");
      if (scheme != "always" && scheme != "first" && scheme != "never") {
        refuse("\"prepend_scheme\" is " + io::quoted(scheme) + ", expected \"always\", \"first\" or \"never\"");
      }
      if (scheme != "never") space = {.before_text = true, .behind_special_tokens = scheme == "always"};
    }
    return space;
  }

  /// The vocabulary of a tokenizer made from a SentencePiece model: an object of a BPE, an array of a unigram model.
  [[nodiscard]] std::vector<std::pair<std::string, token_t>> sentencepiece_vocabulary(const Object& document) const {
    const Value* const value = model_of(document).if_contains("vocab");
    if (value == nullptr || !(value->is_object() || value->is_array())) {
      refuse("\"vocab\" is missing or neither an object nor an array");
    }
    BytePairs pairs;
    if (value->is_object()) {
      read_vocabulary(value->get_object(), pairs);
      return std::move(pairs.vocabulary);
    }
    for (const Value& token : value->get_array()) {
      if (!token.is_array() || token.get_array().size() != 2) {
        refuse("a token of \"vocab\" is " + io::describe(token) + ", expected an array of text and score");
      }
      const auto id = static_cast<token_t>(pairs.vocabulary.size());
      pairs.vocabulary.emplace_back(json_as<std::string>(token.get_array()[0], "a token", name_), id);
    }
    return std::move(pairs.vocabulary);
  }

  /// The vocabulary, of a JSON object of tokens and ids.
  void read_vocabulary(const Object& vocabulary, BytePairs& pairs) const {
    pairs.vocabulary_name = name_;
    pairs.vocabulary.reserve(vocabulary.size());
    for (const auto& [key, value] : vocabulary) {
      const std::string token(key.data(), key.size());
      pairs.vocabulary.emplace_back(token, json_as<token_t>(value, "the id of " + io::quoted(token), name_));
    }
  }
  /// Merges of tokenizer.json: "left right" in older files, ["left", "right"] in newer ones.
  void read_merges(const Object& model, BytePairs& pairs) const {
    pairs.merges_name = name_;
    const Value* const value = model.if_contains("merges");
    if (value == nullptr || !value->is_array()) refuse("\"merges\" is missing or no array");
    for (const Value& merge : value->get_array()) {
      if (merge.is_string()) {
        pairs.merges.push_back(split(json_as<std::string>(merge, "a merge", name_), pairs.merges.size() + 1, "merge "));
        continue;
      }
      auto both = json_as<std::vector<std::string>>(merge, "a merge", name_);
      if (both.size() != 2) {
        refuse("merge " + std::to_string(pairs.merges.size() + 1) + " has " + std::to_string(both.size()) +
               " tokens, expected two");
      }
      pairs.merges.emplace_back(std::move(both[0]), std::move(both[1]));
    }
  }
  /// "left right"; messages say `what` and `number` of one that is none.
  [[nodiscard]] std::pair<std::string, std::string> split(std::string_view merge, std::size_t number,
                                                          std::string_view what) const {
    const std::size_t space = merge.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string_view::npos) {
      refuse(std::string(what) + std::to_string(number) + ": " + io::quoted(merge) +
             " is not two tokens with one space between them");
    }
    return {std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))};
  }

 private:
  /// The text of a special token in a post-processor's template.
  [[nodiscard]] std::string template_token(const Object& item) const {
    return io::get<std::string>(io::get<Object>(item, "SpecialToken", name_), "id", name_);
  }
  // As deep as JSON may be, which is bounded.
  void flatten(const Object& object, std::string_view list, std::vector<Object>& found) const {
    if (type_of(object) != "Sequence") {
      found.push_back(object);
      return;
    }
    for (const Object& part : io::get<std::vector<Object>>(object, list, name_)) flatten(part, list, found);
  }

  std::string name_;
};

[[nodiscard]] inline bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace storylm::detail

namespace storylm::io {

/// Reads a tokenizer.json of any kind. @throws IoError, and FormatError when it is not JSON, has an unknown part, an
/// added token or a post-processor that is not supported
[[nodiscard]] inline TokenizerJson read_tokenizer_json(const std::filesystem::path& path) {
  TokenizerJson json;
  json.name = path.string();
  boost::json::value document = read_json(path);
  (void)as_object(document, json.name);
  json.document = std::move(document.get_object());
  const detail::TokenizerReader reader(json.name);
  reader.only(json.document, "it",
              {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
               "decoder", "model"});
  const auto version = get<std::string>(json.document, "version", json.name);
  if (version != "1.0") reader.refuse("\"version\" is " + io::quoted(version) + ", expected \"1.0\"");
  const auto added = find<std::vector<boost::json::object>>(json.document, "added_tokens", json.name);
  for (const auto& token : added.value_or(std::vector<boost::json::object>{})) {
    json.added.push_back(reader.added_token(token, std::nullopt));
  }
  reader.read_post_processor(json);
  return json;
}

/// The byte-level BPE that a tokenizer.json describes. @throws FormatError when it describes another tokenizer, naming
/// what is different
[[nodiscard]] inline ByteLevelBpeFile byte_level_bpe_of(const TokenizerJson& json) {
  const detail::TokenizerReader reader(json.name);
  const boost::json::object& model = reader.model_of(json.document);
  reader.refuse_sentencepiece(json.document, model);
  const std::string type = find<std::string>(model, "type", json.name).value_or("BPE");  // older files do not say it
  if (type != "BPE") reader.refuse("the model " + io::quoted(type) + " is not supported, only \"BPE\"");
  // With a token for every byte nothing is unknown: unk_token and fuse_unk have no effect.
  reader.only(model, "the model",
              {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
               "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (find<double>(model, "dropout", json.name).value_or(0.0) != 0.0) reader.refuse("\"dropout\" is not supported");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string value = find<std::string>(model, key, json.name).value_or("");
    if (!value.empty()) reader.refuse(io::quoted(key) + " is " + io::quoted(value) + ", which is not supported");
  }
  ByteLevelBpeFile file;
  file.options = reader.read_pipeline(json.document);
  file.options.ignore_merges = find<bool>(model, "ignore_merges", json.name).value_or(false);
  const boost::json::value* const vocabulary = model.if_contains("vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) reader.refuse("\"vocab\" is missing or no object");
  reader.read_vocabulary(vocabulary->get_object(), file.pairs);
  reader.read_merges(model, file.pairs);
  return file;
}

/// Reads vocab.json and merges.txt. @throws IoError, and FormatError with file and line
[[nodiscard]] inline ByteLevelBpeFile read_vocab_and_merges(const std::filesystem::path& vocab,
                                                            const std::filesystem::path& merges) {
  ByteLevelBpeFile file;
  detail::TokenizerReader(vocab.string()).read_vocabulary(as_object(read_json(vocab), vocab.string()), file.pairs);
  const detail::TokenizerReader reader(merges.string());
  file.pairs.merges_name = merges.string();
  const std::string text = detail::read_file(merges, detail::TokenizerReader::op, JsonLimits{}.bytes);
  std::size_t line = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view merge = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (merge.ends_with('\r')) merge.remove_suffix(1);
    if (merge.starts_with("#version")) {  // tokenizers skips such a line wherever it stands
      if (line == 1 && merge == "#version: 0.2") continue;
      reader.refuse("line " + std::to_string(line) + ": " + io::quoted(merge) +
                    ": \"#version: 0.2\" on the first line is what is known");
    }
    file.pairs.merges.push_back(reader.split(merge, line, "line "));
    file.pairs.lines.push_back(line);
  }
  return file;
}

/// Reads what `folder` has of tokenizer_config.json, special_tokens_map.json and added_tokens.json, the first of which
/// goes before the second. @throws IoError, FormatError
[[nodiscard]] inline TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder) {
  TokenizerConfig config;
  for (const std::string_view file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::filesystem::path path = folder / file;
    if (!detail::is_file(path)) continue;
    const std::string name = path.string();
    const boost::json::value value = read_json(path);
    const boost::json::object& object = as_object(value, name);
    const detail::TokenizerReader reader(name);
    for (const auto& [key, token] : {std::pair{"bos_token", &config.bos},
                                     {"eos_token", &config.eos},
                                     {"pad_token", &config.pad},
                                     {"unk_token", &config.unk}}) {
      if (!token->has_value()) *token = reader.special_token(object, key);
    }
    for (const std::string_view key : {"additional_special_tokens", "extra_special_tokens"}) {
      const boost::json::value* const list = object.if_contains({key.data(), key.size()});
      if (list == nullptr || list->is_null()) continue;
      if (list->is_array()) {
        for (const auto& token : list->get_array()) config.special.push_back(reader.token_text(token, key));
      } else if (list->is_object()) {
        for (const auto& [role, token] : list->get_object()) config.special.push_back(reader.token_text(token, key));
      } else {
        reader.refuse(io::quoted(key) + " is " + describe(*list) + ", expected an array or an object");
      }
    }
    if (file != "tokenizer_config.json") continue;
    config.tokenizer_class = find<std::string>(object, "tokenizer_class", name).value_or("");
    config.add_bos_token = find<bool>(object, "add_bos_token", name);
    config.add_eos_token = find<bool>(object, "add_eos_token", name);
    config.add_prefix_space = find<bool>(object, "add_prefix_space", name);
    config.legacy = find<bool>(object, "legacy", name);
    if (find<bool>(object, "do_lower_case", name).value_or(false)) {
      reader.refuse("\"do_lower_case\" is true, which is not supported");
    }
    const auto decoder = find<boost::json::object>(object, "added_tokens_decoder", name);
    for (const auto& [key, token] : decoder.value_or(boost::json::object{})) {
      const token_t id = reader.id_of_key({key.data(), key.size()});
      if (!token.is_object()) reader.refuse("\"added_tokens_decoder\" has " + describe(token) + ", expected an object");
      config.added.push_back(reader.added_token(token.get_object(), id));
    }
  }
  const std::filesystem::path path = folder / "added_tokens.json";
  if (detail::is_file(path)) {
    const std::string name = path.string();
    const boost::json::value value = read_json(path);
    const detail::TokenizerReader reader(name);
    for (const auto& [key, id] : as_object(value, name)) {
      const std::string text(key.data(), key.size());
      const token_t number = detail::json_as<token_t>(id, "the id of " + io::quoted(text), name);
      const bool known = std::any_of(config.added.begin(), config.added.end(),
                                     [&](const AddedToken& token) { return token.text == text && token.id == number; });
      if (known) continue;  // tokenizer_config.json says more of it
      config.added.push_back(reader.added_token({{"content", text}, {"normalized", true}}, number));
    }
  }
  return config;
}

}  // namespace storylm::io
