// SPDX-License-Identifier: MIT
/// @file
/// @brief SentencePiece models as a Tokenizer. Training is in sentencepiece_trainer.hpp.
///
/// T. Kudo and J. Richardson, "SentencePiece: a simple and language independent subword tokenizer and detokenizer for
/// neural text processing", EMNLP 2018.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sentencepiece_processor.h>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/detail/quoted.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/sentencepiece_check.hpp>
#include <storylm/text/tokenizer.hpp>
#include <storylm/text/tokenizer_settings.hpp>

namespace storylm {

/// A SentencePiece model and whether text is lower-cased before it. A cheap handle; any thread may use it.
class SentencePieceTokenizer {
 public:
  /// Reads `model`, and `<name>.settings.json` beside it when there is one.
  /// @throws IoError when it cannot be read, FormatError when it is not a SentencePiece model
  [[nodiscard]] static SentencePieceTokenizer load(const std::filesystem::path& model) {
    std::string bytes = detail::read_file(model, op, std::uint64_t{1} << 28U);
    const std::uint64_t hash = detail::hash64(bytes);
    const std::optional<TokenizerSettings> settings = read_tokenizer_settings(model, hash);
    return SentencePieceTokenizer(std::move(bytes), settings.has_value() && settings->lowercase, model.string());
  }

  /// From the bytes of a model file; `name` is what errors call it. @throws FormatError
  SentencePieceTokenizer(std::string model, bool lowercase, std::string_view name = "the model")
      : processor_(std::make_shared<sentencepiece::SentencePieceProcessor>()),
        model_(std::make_shared<const std::string>(std::move(model))),
        hash_(detail::hash64(*model_)),
        lowercase_(lowercase) {
    expects<FormatError>(!model_->empty(), op, name, " is not a SentencePiece model: it is empty");
    detail::expect_sentencepiece_model(*model_, name);
    const std::string why = refusal([&] { return processor_->LoadFromSerializedProto(*model_); });
    expects<FormatError>(why.empty(), op, name, " is not a SentencePiece model: ", why);
    words_are_independent_ = find_out_independence();
  }

  /// Number of pieces.
  [[nodiscard]] index_t vocab_size() const { return processor_->GetPieceSize(); }

  /// Ids of `text`, lower-cased first if the model was trained so. Text of any length needs little memory.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const {
    std::string lower;
    if (lowercase_) text = lower = lower_case(text);
    std::vector<token_t> tokens;
    while (words_are_independent_ && text.size() > part_bytes) {
      const std::size_t cut = find_cut(text);
      if (cut == std::string_view::npos) break;
      const std::vector<token_t> part = encode_part(text.substr(0, cut));
      tokens.insert(tokens.end(), part.begin(), part.end());
      text.remove_prefix(cut + 1);
    }
    if (tokens.empty()) return encode_part(text);
    const std::vector<token_t> part = encode_part(text);
    tokens.insert(tokens.end(), part.begin(), part.end());
    return tokens;
  }

  /// The text of `tokens`. UNK is " \u2047 "; BOS, EOS and PAD are nothing. @throws ArgumentError when one is out of
  /// range
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const {
    for (const token_t token : tokens) require(token);
    std::string text;
    const std::string why =
        refusal([&] { return processor_->Decode(std::vector<int>(tokens.begin(), tokens.end()), &text); });
    expects<ArgumentError>(why.empty(), op, "cannot decode ", tokens.size(), " tokens: ", why);
    return text;
  }
  /// The piece `token` stands for, in which U+2581 is a space. @throws ArgumentError when it is out of range
  [[nodiscard]] const std::string& piece(token_t token) const {
    require(token);
    return processor_->IdToPiece(token);
  }

  /// `text` as the model sees it: lower-cased if it was trained so.
  [[nodiscard]] std::string normalise(std::string_view text) const {
    return lowercase_ ? lower_case(text) : std::string(text);
  }
  /// True when text is lower-cased before it is encoded.
  [[nodiscard]] bool lowercase() const noexcept { return lowercase_; }
  /// True when the ids of a text are those of its words (which are one space apart): for BPE models that end pieces at
  /// spaces and put a space before the first word.
  [[nodiscard]] bool words_are_independent() const noexcept { return words_are_independent_; }
  /// True when unknown characters are spelt in bytes rather than UNK.
  [[nodiscard]] bool byte_fallback() const {
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      if (processor_->IsByte(id)) return true;
    }
    return false;
  }

  /// Begins a text; -1 when the model has none, like the next three.
  [[nodiscard]] token_t bos() const { return processor_->bos_id(); }
  /// Ends a text.
  [[nodiscard]] token_t eos() const { return processor_->eos_id(); }
  /// Fills up.
  [[nodiscard]] token_t pad() const { return processor_->pad_id(); }
  /// Stands for what the vocabulary cannot spell.
  [[nodiscard]] token_t unk() const { return processor_->unk_id(); }
  /// XXH64 of the model file.
  [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }

  /// The bytes of the model file.
  [[nodiscard]] const std::string& model_bytes() const noexcept { return *model_; }
  /// The vocabulary as SentencePiece writes it: piece, tab, score.
  [[nodiscard]] std::string vocab_text() const {
    std::ostringstream text;
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      text << processor_->IdToPiece(id) << '\t' << processor_->GetScore(id) << '\n';
    }
    return text.str();
  }
  /// What save() writes beside the model.
  [[nodiscard]] TokenizerSettings settings() const {
    return {.lowercase = lowercase_, .vocab_size = vocab_size(), .byte_fallback = byte_fallback(), .model_hash = hash_};
  }

  /// Writes `model` and its settings beside it, both or neither. @throws WriteError
  void save(const std::filesystem::path& model) const {
    detail::AtomicFile settings_file(tokenizer_settings_path(model));
    detail::AtomicFile model_file(model);
    settings_file.write(to_json(settings()));
    model_file.write(*model_);
    detail::AtomicFile::publish_all({&settings_file, &model_file});
  }

 private:
  static constexpr std::string_view op = "SentencePieceTokenizer";
  // SentencePiece needs some 60 bytes a byte of text at once.
  static constexpr std::size_t part_bytes = std::size_t{1} << 15U;

  /// What the library says against a call, be it a status or an exception of its parts, which some models bring about;
  /// empty when nothing. It may show what a file has.
  template <class F>
  static std::string refusal(F&& call) {
    constexpr std::size_t longest = 300;
    try {
      const auto status = call();
      return status.ok() ? std::string() : detail::escaped(status.ToString(), longest);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      return detail::escaped(error.what(), longest);
    }
  }

  void require(token_t token) const {
    expects<ArgumentError>(token >= 0 && token < processor_->GetPieceSize(), op, "token ", token,
                           " is not in the vocabulary of ", processor_->GetPieceSize());
  }
  /// A space between two plain characters, about part_bytes into `text`: nothing else there may act as a space too.
  static std::size_t find_cut(std::string_view text) {
    const auto plain = [](char c) { return c > ' ' && c < '\x7F'; };
    const auto good = [&](std::size_t at) {
      return at > 0 && at + 1 < text.size() && plain(text[at - 1]) && plain(text[at + 1]);
    };
    std::size_t cut = text.rfind(' ', part_bytes);
    while (cut != std::string_view::npos && cut > 0 && !good(cut)) cut = text.rfind(' ', cut - 1);
    if (cut != std::string_view::npos && good(cut)) return cut;
    cut = text.find(' ', part_bytes);
    while (cut != std::string_view::npos && !good(cut)) cut = text.find(' ', cut + 1);
    return cut;
  }
  [[nodiscard]] bool find_out_independence() const {
    constexpr std::string_view space = "\u2581";
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      if (processor_->IsControl(id) || processor_->IsUnknown(id) || processor_->IsByte(id)) continue;
      // Scores of BPE pieces are ranks; the log probabilities of a unigram model add up along the whole text.
      const float score = processor_->GetScore(id);
      std::string_view piece = processor_->IdToPiece(id);
      while (piece.starts_with(space)) piece.remove_prefix(space.size());
      if (score != std::floor(score) || piece.find(space) != std::string_view::npos) return false;
    }
    std::vector<token_t> twice = encode_part("a");
    if (twice.empty() || encode_part("a ") != twice) return false;
    const std::size_t once = twice.size();
    for (std::size_t i = 0; i < once; ++i) twice.push_back(twice[i]);
    return encode_part("a a") == twice;
  }
  [[nodiscard]] std::vector<token_t> encode_part(std::string_view text) const {
    std::vector<int> ids;
    const std::string why = refusal([&] { return processor_->Encode({text.data(), text.size()}, &ids); });
    expects<ArgumentError>(why.empty(), op, "cannot encode ", text.size(), " bytes of text: ", why);
    return ids;
  }

  std::shared_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::shared_ptr<const std::string> model_;
  std::uint64_t hash_;
  bool lowercase_;
  bool words_are_independent_ = false;
};
static_assert(std::same_as<token_t, int>, "SentencePiece's ids are taken as they are");
static_assert(Tokenizer<SentencePieceTokenizer>);

}  // namespace storylm
