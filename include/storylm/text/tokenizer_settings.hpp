// SPDX-License-Identifier: MIT
/// @file
/// @brief The small JSON file beside a tokenizer's model: what was done to the text before the model saw it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/detail/hash.hpp>

namespace storylm {

/// What `bpe.settings.json` says about `bpe.model`.
struct TokenizerSettings {
  bool lowercase = false;        ///< text is lower-cased before it is encoded
  index_t vocab_size = 0;        ///< for readers of the file; the model knows its own
  bool byte_fallback = false;    ///< for readers of the file
  std::uint64_t model_hash = 0;  ///< XXH64 of the model file it belongs to
};

/// `bpe.settings.json` for `bpe.model`.
[[nodiscard]] inline std::filesystem::path tokenizer_settings_path(std::filesystem::path model) {
  return model.replace_extension(".settings.json");
}

/// The settings as the text of a JSON file.
[[nodiscard]] inline std::string to_json(const TokenizerSettings& settings) {
  const auto boolean = [](bool value) { return value ? "true" : "false"; };
  return std::string("{\n  \"format\": \"storylm.tokenizer\",\n  \"version\": 1,\n  \"model_hash\": \"") +
         detail::hash_text(settings.model_hash) + "\",\n  \"vocab_size\": " + std::to_string(settings.vocab_size) +
         ",\n  \"byte_fallback\": " + boolean(settings.byte_fallback) +
         ",\n  \"lowercase\": " + boolean(settings.lowercase) + "\n}\n";
}

namespace detail {

/// Reads one flat JSON object of strings without escapes, numbers and booleans: all that this file may hold, and no
/// reason for text/ to depend on a JSON library.
class FlatJson {
 public:
  /// @throws FormatError with file and byte offset
  FlatJson(std::string_view text, const std::filesystem::path& path) : text_(text), path_(path) {
    expect('{');
    if (peek() != '}') {
      do {
        std::string key = string();
        require(values_.size() < max_values, "there are too many fields");
        require(!find(key).has_value(), "the key \"" + key + "\" stands there twice");
        expect(':');
        values_.emplace_back(std::move(key), value());
      } while (accept(','));
    }
    expect('}');
    require(peek() == '\0' && at_ == text_.size(), "expected the end of the file");
  }

  /// The value of `key` as it stands in the file, strings with their quotes.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const {
    for (const auto& [name, text] : values_) {
      if (name == key) return text;
    }
    return std::nullopt;
  }

 private:
  static constexpr std::size_t max_values = 64;
  static constexpr std::size_t max_bytes = 200;  // of a string or a number

  void require(bool ok, std::string_view reason) const {
    expects<FormatError>(ok, "TokenizerSettings", path_, " at byte ", at_, ": ", reason);
  }
  char peek() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) { require(accept(c), std::string("expected ") + c); }
  std::string string() {
    expect('"');
    const std::size_t end = text_.find_first_of("\"\\", at_);
    require(end != std::string_view::npos && text_[end] == '"', "expected a string without escapes");
    const std::string_view found = text_.substr(at_, end - at_);
    const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == '\x7F'; };
    require(std::none_of(found.begin(), found.end(), control), "a control character in a string");
    require(found.size() <= max_bytes, "a string that is too long");  // messages show what they find
    at_ = end + 1;
    return std::string(found);
  }
  std::string value() {
    if (peek() == '"') {
      std::string quoted = "\"";
      return (quoted += string()) += '"';
    }
    const std::size_t end = text_.find_first_of(" \t\r\n,}", at_);
    require(end != std::string_view::npos && end != at_, "expected a value");
    const std::string_view word = text_.substr(at_, end - at_);
    require(word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+-.E") == std::string_view::npos,
            "expected a string, a number or a boolean");
    require(word.size() <= max_bytes, "a number that is too long");
    at_ = end;
    return std::string(word);
  }

  std::string_view text_;
  const std::filesystem::path& path_;
  std::size_t at_ = 0;
  std::vector<std::pair<std::string, std::string>> values_;
};

}  // namespace detail

/// Reads the settings that lie beside `model`; nothing when there are none.
/// @throws IoError, and FormatError when they are damaged or belong to a model with another hash than `model_hash`
[[nodiscard]] inline std::optional<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& model,
                                                                              std::uint64_t model_hash) {
  const std::filesystem::path path = tokenizer_settings_path(model);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  constexpr std::string_view op = "TokenizerSettings";
  const std::string text = detail::read_file(path, op, 1U << 16U);
  const detail::FlatJson json(text, path);

  const auto need = [&](std::string_view key) {
    const std::optional<std::string_view> value = json.find(key);
    expects<FormatError>(value.has_value(), op, path, ": there is no \"", key, "\"");
    return *value;
  };
  expects<FormatError>(need("format") == "\"storylm.tokenizer\"" && need("version") == "1", op, path, ": format ",
                       need("format"), " version ", need("version"),
                       ", this program reads \"storylm.tokenizer\" version 1");
  const std::string own = '"' + detail::hash_text(model_hash) + '"';
  expects<FormatError>(need("model_hash") == own, op, path, ": it belongs to a model with hash ", need("model_hash"),
                       ", but that of ", model, " is ", own);
  const std::string_view lowercase = need("lowercase");
  expects<FormatError>(lowercase == "true" || lowercase == "false", op, path, ": lowercase is ", lowercase,
                       ", expected true or false");
  return TokenizerSettings{.lowercase = lowercase == "true", .model_hash = model_hash};
}

}  // namespace storylm
