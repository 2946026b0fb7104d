// SPDX-License-Identifier: MIT
/// @file
/// @brief Tokens beside a tokenizer's own: special ones such as "<|endoftext|>", and those a chat model was given
/// later.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/text/gpt2_words.hpp>
#include <storylm/text/tokenizer.hpp>

namespace storylm {

/// A token that is found in the text as it stands, before the tokenizer sees it.
struct AddedToken {
  std::string text;          ///< what it looks like
  token_t id = -1;           ///< may be one of the tokenizer's own
  bool special = false;      ///< controls the model: found only where special tokens are parsed, decoded as nothing
  bool left_strip = false;   ///< takes the spaces before it along
  bool right_strip = false;  ///< takes the spaces behind it along
  bool normalized = false;   ///< looked for in what the others leave over
};

/// How a WithAddedTokens reads text, and what its special tokens are.
struct AddedTokensOptions {
  /// True: "<|endoftext|>" in a text is that token. False: it is text, spelt like any other, so that no story can
  /// speak to the model in its control tokens.
  bool parse_special = false;
  /// True: the text behind an added token is encoded as if it began there. False: as a continuation, by the tokenizer
  /// given for it.
  bool text_begins_anew = true;
  std::optional<token_t> bos{};  ///< nothing: the tokenizer's own; negative: none; like the next three
  std::optional<token_t> eos{};  ///< ends a text
  std::optional<token_t> pad{};  ///< fills up
  std::optional<token_t> unk{};  ///< stands for what the vocabulary cannot spell
};

/// The tokenizer T and tokens added to it. Special ones are plain text to encode() unless options.parse_special; other
/// added ones are always found, the longest first. This is what Hugging Face's `tokenizers` does, where it is called
/// encode_special_tokens and is off by default. A cheap handle; any thread may use it.
template <Tokenizer T>
class WithAddedTokens {
 public:
  /// `continuation`, where there is one, is `tokenizer` without what it does at the beginning of a text: without
  /// SentencePiece's space before the first word. @throws ArgumentError when a token has no text or a negative id, or
  /// two have the same text or id
  WithAddedTokens(T tokenizer, std::vector<AddedToken> tokens, const AddedTokensOptions& options = {},
                  std::optional<T> continuation = std::nullopt)
      : model_(
            std::make_shared<const Model>(std::move(tokenizer), std::move(tokens), options, std::move(continuation))) {}

  /// Ids are below this: the tokenizer's own and the added ones. There may be holes.
  [[nodiscard]] index_t vocab_size() const noexcept { return model_->vocab_size; }

  /// Ids of `text`, in which special tokens are plain text unless the options say otherwise.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const {
    return encode(text, model_->options.parse_special);
  }
  /// The same, special tokens parsed or plain whatever the options say.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text, bool parse_special) const {
    // What normalized tokens are looked for in is what the others leave over.
    std::vector<token_t> ids;
    for (const Part& outer : model_->split({text, -1}, false, parse_special)) {
      if (outer.token >= 0) {
        ids.push_back(outer.token);
        continue;
      }
      for (const Part& part : model_->split(outer, true, parse_special)) {
        if (part.token >= 0) {
          ids.push_back(part.token);
          continue;
        }
        const bool begins = part.text.data() == text.data() || model_->options.text_begins_anew;
        const std::vector<token_t> plain = (begins ? model_->tokenizer : model_->later()).encode(part.text);
        ids.insert(ids.end(), plain.begin(), plain.end());
      }
    }
    return ids;
  }

  /// The text of `tokens`; special tokens, and ids in holes, are nothing. @throws ArgumentError when one is out of
  /// range
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const { return decode(tokens, false); }
  /// The same, special tokens as their text where `show_special`.
  [[nodiscard]] std::string decode(std::span<const token_t> tokens, bool show_special) const {
    std::string text;
    std::vector<token_t> run;  // of the tokenizer's own, so that it sees what belongs together
    bool begun = false;
    const auto finish = [&] {
      if (run.empty()) return;
      text += (begun ? model_->later() : model_->tokenizer).decode(run);
      begun = true;
      run.clear();
    };
    for (const token_t token : tokens) {
      expects<ArgumentError>(token >= 0 && token < vocab_size(), op, "token ", token, " is not in the vocabulary of ",
                             vocab_size());
      const AddedToken* const added = model_->find(token);
      if (added == nullptr) {
        if (token < model_->tokenizer.vocab_size()) run.push_back(token);
      } else if (!added->special || show_special) {
        finish();
        text += added->text;
        begun = true;
      }
    }
    finish();
    return text;
  }

  /// `text` as the tokenizer normalises it.
  [[nodiscard]] std::string normalise(std::string_view text) const { return model_->tokenizer.normalise(text); }
  /// Begins a text; negative when there is none, like the next three.
  [[nodiscard]] token_t bos() const { return model_->options.bos.value_or(model_->tokenizer.bos()); }
  /// Ends a text.
  [[nodiscard]] token_t eos() const { return model_->options.eos.value_or(model_->tokenizer.eos()); }
  /// Fills up.
  [[nodiscard]] token_t pad() const { return model_->options.pad.value_or(model_->tokenizer.pad()); }
  /// Stands for what the vocabulary cannot spell.
  [[nodiscard]] token_t unk() const { return model_->options.unk.value_or(model_->tokenizer.unk()); }
  /// The tokenizer's own hash where no id and no ordinary token came to it; else one of both.
  [[nodiscard]] std::uint64_t hash() const noexcept { return model_->hash; }

  /// The tokenizer without added tokens.
  [[nodiscard]] const T& tokenizer() const noexcept { return model_->tokenizer; }
  /// The added tokens, by id.
  [[nodiscard]] std::span<const AddedToken> added_tokens() const noexcept { return model_->tokens; }

 private:
  static constexpr std::string_view op = "WithAddedTokens";

  /// A piece of the text: an added token, or text between them.
  struct Part {
    std::string_view text;
    token_t token;  // -1: text
  };

  struct Model {
    Model(T kept, std::vector<AddedToken> added, const AddedTokensOptions& given, std::optional<T> later_one)
        : tokenizer(std::move(kept)),
          continuation(std::move(later_one)),
          tokens(std::move(added)),
          options(given),
          vocab_size(tokenizer.vocab_size()),
          hash(tokenizer.hash()) {
      std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
      detail::Hash64 sum(hash);
      bool changes = false;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        const AddedToken& token = tokens[i];
        expects<ArgumentError>(!token.text.empty() && token.id >= 0, op, "the token \"", token.text, "\" with id ",
                               token.id, " needs a text and an id that is not negative");
        expects<ArgumentError>(i == 0 || tokens[i - 1].id != token.id, op, "\"", tokens[i == 0 ? 0 : i - 1].text,
                               "\" and \"", token.text, "\" have the same id, ", token.id);
        by_first_byte[static_cast<unsigned char>(token.text.front())].push_back(&token);
        changes = changes || token.id >= tokenizer.vocab_size() || !token.special;
        sum.update(std::to_string(token.id) + (token.special ? " special " : " plain ") + token.text + '\n');
        vocab_size = std::max<index_t>(vocab_size, index_t{token.id} + 1);
      }
      for (auto& group : by_first_byte) {  // the longest first, so that the first that fits is the one
        std::sort(group.begin(), group.end(), [](const AddedToken* a, const AddedToken* b) {
          return a->text.size() != b->text.size() ? a->text.size() > b->text.size() : a->text < b->text;
        });
        const auto twice = std::adjacent_find(
            group.begin(), group.end(), [](const AddedToken* a, const AddedToken* b) { return a->text == b->text; });
        expects<ArgumentError>(twice == group.end(), op, "\"", twice == group.end() ? "" : (*twice)->text,
                               "\" is added twice");
      }
      if (changes) hash = sum.value();
    }
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    [[nodiscard]] const T& later() const { return continuation.has_value() ? *continuation : tokenizer; }

    [[nodiscard]] const AddedToken* find(token_t id) const {
      const auto found = std::lower_bound(tokens.begin(), tokens.end(), id,
                                          [](const AddedToken& token, token_t wanted) { return token.id < wanted; });
      return found != tokens.end() && found->id == id ? &*found : nullptr;
    }
    /// The longest of the tokens (normalized ones or the others) that `text` begins with.
    [[nodiscard]] const AddedToken* match(std::string_view text, bool normalized) const {
      for (const AddedToken* const token : by_first_byte[static_cast<unsigned char>(text.front())]) {
        if (token->normalized == normalized && text.starts_with(token->text)) return token;
      }
      return nullptr;
    }
    [[nodiscard]] std::vector<Part> split(const Part& whole, bool normalized, bool parse_special) const {
      std::vector<Part> parts;
      const std::string_view text = whole.text;
      std::size_t done = 0;
      for (std::size_t at = 0; at < text.size();) {
        const AddedToken* const token = match(text.substr(at), normalized);
        if (token == nullptr) {
          ++at;
          continue;
        }
        std::size_t begin = at;
        std::size_t end = at += token->text.size();
        if (token->special && !parse_special) continue;  // and nothing is looked for inside it
        if (token->left_strip) {
          while (begin > done) {
            std::size_t last = begin - 1;  // where the character before begins
            while (last > done && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U) --last;
            const detail::ClassedCharacter before = detail::classed_character(text, last);
            if (before.kind != UnicodeClass::space || last + before.bytes != begin) break;
            begin = last;
          }
        }
        if (token->right_strip) {
          while (end < text.size()) {
            const detail::ClassedCharacter behind = detail::classed_character(text, end);
            if (behind.kind != UnicodeClass::space) break;
            end += behind.bytes;
          }
          at = std::max(at, end);
        }
        if (begin > done) parts.push_back({text.substr(done, begin - done), -1});
        parts.push_back({text.substr(begin, end - begin), token->id});
        done = end;
      }
      if (done < text.size()) parts.push_back({text.substr(done), -1});
      return parts;
    }

    T tokenizer;
    std::optional<T> continuation;
    std::vector<AddedToken> tokens;  // by id
    AddedTokensOptions options;
    std::array<std::vector<const AddedToken*>, 256> by_first_byte;
    index_t vocab_size;
    std::uint64_t hash;
  };

  std::shared_ptr<const Model> model_;
};

}  // namespace storylm
