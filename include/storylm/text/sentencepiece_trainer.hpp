// SPDX-License-Identifier: MIT
/// @file
/// @brief Trains a SentencePiece BPE model: same text, same options, same bytes. Links libsentencepiece_train too.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sentencepiece_trainer.h>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/core/random.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/text/word_table.hpp>

namespace storylm {

/// A uniform random choice out of a stream of text, in bounded memory (Vitter's algorithm R). Text goes in whole and is
/// cut at spaces into parts of at most part_bytes: SentencePiece ends the process on a word of 65536 characters.
class SentenceSample {
 public:
  /// The longest part.
  static constexpr std::size_t part_bytes = 4096;

  /// @param capacity the largest number of parts kept; every part of the stream is kept with the same probability
  /// @param seed of the choice
  explicit SentenceSample(std::size_t capacity = 100000, std::uint64_t seed = 1)
      : capacity_(capacity), random_(seed, 0, site) {
    expects<ArgumentError>(capacity > 0, "SentenceSample", "capacity must be positive");
  }

  /// Takes a story or a sentence into account.
  void add(std::string_view text) {
    while (!text.empty()) {
      std::size_t cut = text.size();
      if (cut > part_bytes) {
        cut = text.rfind(' ', part_bytes);
        if (cut == std::string_view::npos || cut == 0) {  // one long word: cut before the first byte of a character
          cut = part_bytes;
          while (cut > part_bytes - 4 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
        }
      }
      add_part(text.substr(0, cut));
      text.remove_prefix(cut);
    }
  }

  /// The parts kept.
  [[nodiscard]] std::span<const std::string> sentences() const noexcept { return sentences_; }
  /// Parts that went by, kept or not.
  [[nodiscard]] std::uint64_t seen() const noexcept { return seen_; }

 private:
  static constexpr std::uint32_t site = 0x73616D70U;

  void add_part(std::string_view part) {
    ++seen_;
    if (sentences_.size() < capacity_) {
      sentences_.emplace_back(part);
    } else if (const std::uint64_t place = random_.below(seen_); place < capacity_) {
      sentences_[static_cast<std::size_t>(place)].assign(part);
    }
  }

  std::size_t capacity_;
  RandomStream random_;
  std::vector<std::string> sentences_;
  std::uint64_t seen_ = 0;
};

/// What may be chosen about a model; all else is fixed.
struct SentencePieceTrainOptions {
  index_t vocab_size = 5120;  ///< pieces, the special ones among them
  bool byte_fallback = true;  ///< spell unknown characters in bytes; else they are UNK
  bool lowercase = false;     ///< lower-case the sentences, and later what is encoded
};

namespace detail {

/// Hands words and their numbers to the trainer, as lines "word, tab, number": BPE pieces end at spaces, so a model of
/// sentences is that of their words, and a word that comes a million times is looked at once.
class CountedWords final : public sentencepiece::SentenceIterator {
 public:
  CountedWords(std::span<const std::string> sentences, bool lowercase) {
    std::string changed;
    for (const std::string& sentence : sentences) {
      if (sentence.size() > max_sentence_bytes) continue;
      std::string_view text = sentence;
      if (lowercase) text = changed = lower_case(text);
      if (text.find('\t') != std::string_view::npos) {  // whitespace like any other, but for the form of the lines
        changed = std::string(text);
        std::replace(changed.begin(), changed.end(), '\t', ' ');
        text = changed;
      }
      while (!text.empty()) count(take_word(text));
    }
    lines_.reserve(words_.size());
    words_.for_each([this](std::string_view word, std::uint64_t times) {
      lines_.push_back(std::string(word) + '\t' + std::to_string(times));
    });
    words_ = {};
  }
  [[nodiscard]] bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return lines_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

  static constexpr std::size_t max_sentence_bytes = 16384;

 private:
  void count(const Word& word) {
    if (word.text.empty()) return;
    if (std::uint64_t* const times = words_.find(word)) {
      ++*times;
    } else {
      words_.insert(word, 1);
    }
  }

  WordTable<std::uint64_t> words_;
  std::vector<std::string> lines_;
  std::size_t at_ = 0;
};

/// The number that follows `before` in `text`.
[[nodiscard]] inline std::optional<index_t> number_after(std::string_view text, std::string_view before) {
  const std::size_t at = text.find(before);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(at + before.size());
  index_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc{} ? std::optional(number) : std::nullopt;
}

}  // namespace detail

/// What can be said about the vocabulary's size before there is text. @throws ArgumentError
inline void check_vocab_size(const SentencePieceTrainOptions& options) {
  constexpr std::string_view op = "train_sentencepiece";
  const index_t special = options.byte_fallback ? 260 : 4;
  expects<ArgumentError>(options.vocab_size > special, op, "a vocabulary of ", options.vocab_size,
                         " is too small: ", special, " pieces are taken by UNK, BOS, EOS, PAD",
                         options.byte_fallback ? " and 256 bytes" : "");
  expects<ArgumentError>(options.vocab_size <= std::numeric_limits<std::int32_t>::max(), op, "a vocabulary of ",
                         options.vocab_size, " is more than 32 bits count");
}

/// Trains a BPE model of exactly `vocab_size` pieces: UNK 0, BOS 1, EOS 2, PAD 3, then 256 bytes when there is byte
/// fallback. Sentences of more than 16384 bytes are left out; SentenceSample makes none. Not for two threads at once:
/// SentencePiece keeps its log level for the whole process, and it is set so that nothing is printed.
/// @throws ArgumentError when the vocabulary is too large for the text, naming the largest possible one, or too small
[[nodiscard]] inline SentencePieceTokenizer train_sentencepiece(std::span<const std::string> sentences,
                                                                const SentencePieceTrainOptions& options = {}) {
  constexpr std::string_view op = "train_sentencepiece";
  check_vocab_size(options);
  expects<ArgumentError>(
      std::any_of(sentences.begin(), sentences.end(), [](const std::string& s) { return !s.empty(); }), op,
      "there is no text to train on");

  // Everything that goes into the model's bytes is fixed here, the number of threads among it.
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"byte_fallback", options.byte_fallback ? "true" : "false"},
      {"character_coverage", "0.9999"},  // in a million characters, leave out those of which there are under a hundred
      {"normalization_rule_name", "nmt_nfkc"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "3"},
      {"input_sentence_size", "0"},
      {"shuffle_input_sentence", "false"},
      {"input_format", "tsv"},
      {"max_sentence_length", std::to_string(detail::CountedWords::max_sentence_bytes + 32)},  // and a number
      {"self_test_sample_size", "0"},
      {"num_threads", "2"},
      {"hard_vocab_limit", "true"},
      {"minloglevel", "3"},
  };
  detail::CountedWords iterator(sentences, options.lowercase);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, &model);
  if (!status.ok()) {
    const std::string message = status.ToString();
    if (const auto largest = detail::number_after(message, "Please set it to a value <= ")) {
      detail::fail<ArgumentError>(op, "a vocabulary of ", options.vocab_size,
                                  " is too large for this text: the largest possible one has ", *largest, " pieces");
    }
    if (const auto smallest = detail::number_after(message, std::to_string(options.vocab_size) + " vs ")) {
      detail::fail<ArgumentError>(op, "a vocabulary of ", options.vocab_size,
                                  " is too small for the characters of this text: it takes at least ", *smallest,
                                  " pieces");
    }
    detail::fail<ArgumentError>(op, "SentencePiece says: ", message);
  }
  return SentencePieceTokenizer(std::move(model), options.lowercase);
}

}  // namespace storylm
