// SPDX-License-Identifier: MIT
/// @file
/// @brief GPT-2's tokenizer: byte pair encoding of bytes spelt in printable characters.
///
/// R. Sennrich, B. Haddow and A. Birch, "Neural machine translation of rare words with subword units", ACL 2016;
/// A. Radford et al., "Language models are unsupervised multitask learners", 2019. Ids are those of Hugging Face's
/// `tokenizers`, also where merges are not in an order that training could give.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/detail/quoted.hpp>
#include <storylm/detail/utf8.hpp>
#include <storylm/text/gpt2_words.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/pair_table.hpp>
#include <storylm/text/tokenizer.hpp>
#include <storylm/text/word_table.hpp>

namespace storylm {

/// What vocab.json and merges.txt hold; tokens are spelt in the byte alphabet, in which "\u0120" is a space.
struct BytePairs {
  std::vector<std::pair<std::string, token_t>> vocabulary;  ///< tokens and their ids
  std::vector<std::pair<std::string, std::string>> merges;  ///< the earlier, the sooner
  std::string vocabulary_name = "the vocabulary";           ///< what errors call it, like the next two
  std::string merges_name = "the merges";                   ///< a path, most of the time
  std::vector<std::size_t> lines;                           ///< of each merge in its file; may be empty
};

/// How a ByteLevelBpe cuts and what its special tokens are.
struct ByteLevelBpeOptions {
  bool add_prefix_space = false;  ///< a text that does not begin with a space gets one
  bool use_regex = true;          ///< cut into words by GPT-2's expression; else the text is one word
  bool ignore_merges = false;     ///< a word that is a token is that token, whatever the merges say
  token_t bos = -1;               ///< negative: none; like the next three, decoded as nothing
  token_t eos = -1;               ///< ends a text
  token_t pad = -1;               ///< fills up
  token_t unk = -1;               ///< never comes out: every byte has a token
};

namespace detail {

/// The character that stands for a byte: printable ones for themselves, the others for 256, 257, ...
[[nodiscard]] inline const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> alphabet = [] {
    std::array<char32_t, 256> made{};
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= U'!' && byte <= U'~') || (byte >= 0xA1 && byte != 0xAD);
      made[byte] = printable ? byte : next++;
    }
    return made;
  }();
  return alphabet;
}

/// The bytes that `token` spells; nothing when a character is not in the byte alphabet.
[[nodiscard]] inline std::optional<std::string> spelt_bytes(std::string_view token) {
  static const std::array<int, 324> bytes = [] {
    std::array<int, 324> made{};
    made.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte) made[byte_alphabet()[byte]] = static_cast<int>(byte);
    return made;
  }();
  std::string spelt;
  for (std::size_t at = 0; at < token.size();) {
    const Utf8 character = decode_utf8(token, at);
    if (character.bytes == 0 || character.code_point >= bytes.size() || bytes[character.code_point] < 0) return {};
    spelt += static_cast<char>(bytes[character.code_point]);
    at += character.bytes;
  }
  return spelt;
}

/// A token as a message shows it, escaped only when there is one.
struct ShownToken {
  std::string_view text;
  friend std::ostream& operator<<(std::ostream& out, const ShownToken& token) { return out << quoted(token.text); }
};

}  // namespace detail

/// Byte-level BPE. Any text has ids, and decode() gives back its bytes, valid UTF-8 or not; a byte that is not UTF-8
/// counts as a character that is neither letter, number nor space. Text is plain: "<|endoftext|>" in it is spelt like
/// any other; WithAddedTokens knows special tokens. A cheap handle; any thread may use it.
class ByteLevelBpe {
 public:
  /// @throws FormatError when the vocabulary has no token for some byte, an id twice, a negative one or one far beyond
  /// its number of tokens, or a merge is of or makes a token that the vocabulary does not have
  explicit ByteLevelBpe(const BytePairs& pairs, const ByteLevelBpeOptions& options = {})
      : model_(std::make_shared<const Model>(pairs, options)) {}

  /// Ids are below this; there may be holes.
  [[nodiscard]] index_t vocab_size() const noexcept { return static_cast<index_t>(model_->ends.size()); }

  /// Ids of `text`, all of it plain. Takes time proportional to the text, and to n log n for a word of n bytes.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const {
    std::vector<token_t> tokens;
    std::string with_space;
    if (model_->options.add_prefix_space && !text.empty() && text.front() != ' ') {
      (with_space = ' ') += text;
      text = with_space;
    }
    Scratch scratch;
    while (!text.empty()) {
      const std::size_t bytes = model_->options.use_regex ? detail::gpt2_word_bytes(text) : text.size();
      const std::string_view word = text.substr(0, bytes);
      text.remove_prefix(bytes);
      if (const token_t* const known = model_->words.find(detail::Word(word)); known != nullptr) {
        tokens.push_back(*known);
      } else {
        model_->merge(word, scratch, tokens);
      }
    }
    return tokens;
  }

  /// The bytes of `tokens`, which need not be UTF-8. BOS, EOS, PAD and ids in holes are nothing. @throws ArgumentError
  /// when one is out of range
  [[nodiscard]] std::string decode(std::span<const token_t> tokens) const {
    std::string text;
    for (const token_t token : tokens) {
      require(token);
      if (token != bos() && token != eos() && token != pad()) text += bytes(token);
    }
    return text;
  }
  /// The bytes `token` stands for; nothing for an id in a hole. Valid as long as the tokenizer. @throws ArgumentError
  /// when it is out of range
  [[nodiscard]] std::string_view bytes(token_t token) const {
    require(token);
    return model_->bytes_of(static_cast<std::size_t>(token));
  }

  /// `text` itself.
  [[nodiscard]] std::string normalise(std::string_view text) const { return std::string(text); }
  /// Begins a text; negative when there is none, like the next three.
  [[nodiscard]] token_t bos() const noexcept { return model_->options.bos; }
  /// Ends a text.
  [[nodiscard]] token_t eos() const noexcept { return model_->options.eos; }
  /// Fills up.
  [[nodiscard]] token_t pad() const noexcept { return model_->options.pad; }
  /// Never comes out.
  [[nodiscard]] token_t unk() const noexcept { return model_->options.unk; }
  /// XXH64 of tokens, merges and how text is cut: the same from tokenizer.json as from vocab.json and merges.txt.
  [[nodiscard]] std::uint64_t hash() const noexcept { return model_->hash; }

 private:
  static constexpr std::string_view op = "ByteLevelBpe";

  /// A token of a word being merged; doubly linked, so that a merge moves nothing.
  struct Symbol {
    token_t token;  // -1: merged into the one before
    std::size_t previous;
    std::size_t next;
  };
  /// A pair that may be merged: the lowest rank first, and of equal ranks the leftmost.
  struct Candidate {
    token_t rank;
    token_t merged;
    std::size_t at;  // the left symbol
    friend bool operator>(const Candidate& a, const Candidate& b) noexcept {
      return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    }
  };
  /// Memory of one call of encode().
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Candidate> queue;  // a heap
  };

  struct Model {
    Model(const BytePairs& pairs, const ByteLevelBpeOptions& given) : options(given), merges(pairs.merges.size()) {
      const std::unordered_map<std::string_view, token_t> ids = read_vocabulary(pairs);
      read_merges(pairs, ids);
      find_words();
    }

    /// Fills `ends`, `text` and `of_byte`.
    std::unordered_map<std::string_view, token_t> read_vocabulary(const BytePairs& pairs) {
      const std::string& name = pairs.vocabulary_name;
      std::unordered_map<std::string_view, token_t> ids;
      ids.reserve(pairs.vocabulary.size());
      // A vocabulary of a few tokens must not ask for gigabytes.
      const std::size_t most = 4 * pairs.vocabulary.size() + 65536;
      std::vector<const std::string*> tokens;
      for (const auto& [token, id] : pairs.vocabulary) {
        const detail::ShownToken shown{token};
        expects<FormatError>(id >= 0, op, name, ": ", shown, " has the id ", id, ", which is negative");
        const auto at = static_cast<std::size_t>(id);
        expects<FormatError>(at < most, op, name, ": ", shown, " has the id ", id, ", too large for ",
                             pairs.vocabulary.size(), " tokens");
        if (at >= tokens.size()) tokens.resize(at + 1);
        expects<FormatError>(tokens[at] == nullptr, op, name, ": ",
                             detail::ShownToken{tokens[at] == nullptr ? token : *tokens[at]}, " and ", shown,
                             " have the same id, ", id);
        tokens[at] = &token;
        expects<FormatError>(ids.emplace(token, id).second, op, name, ": ", shown, " stands there twice");
      }
      spelt.resize(tokens.size());
      for (std::size_t id = 0; id < tokens.size(); ++id) {
        if (tokens[id] != nullptr) {
          const std::optional<std::string> bytes = detail::spelt_bytes(*tokens[id]);
          spelt[id] = bytes.has_value();
          text += bytes.has_value() ? *bytes : *tokens[id];  // as tokenizers decodes it
        }
        ends.push_back(text.size());
      }
      for (std::size_t byte = 0; byte < 256; ++byte) {
        std::string character;
        detail::append_utf8(character, detail::byte_alphabet()[byte]);
        const auto found = ids.find(character);
        expects<FormatError>(found != ids.end(), op, name, ": there is no \"", character, "\", the token of byte ",
                             byte, "; byte-level BPE needs one of every byte");
        of_byte[byte] = found->second;
      }
      return ids;
    }

    /// Fills `merges` and `hash`.
    void read_merges(const BytePairs& pairs, const std::unordered_map<std::string_view, token_t>& ids) {
      detail::Hash64 sum;
      const auto add = [&sum](const auto& value) { sum.update(std::as_bytes(std::span(&value, 1))); };
      add(static_cast<std::uint64_t>(ends.size()));
      for (const std::uint64_t end : ends) add(end);
      sum.update(text);
      add(static_cast<std::uint64_t>((options.add_prefix_space ? 1 : 0) + (options.use_regex ? 2 : 0) +
                                     (options.ignore_merges ? 4 : 0)));
      std::string joined;
      for (std::size_t i = 0; i < pairs.merges.size(); ++i) {
        const std::string& left = pairs.merges[i].first;
        const std::string& right = pairs.merges[i].second;
        const auto id_of = [&](std::string_view token) {
          const auto found = ids.find(token);
          expects<FormatError>(found != ids.end(), op, pairs.merges_name, ": ",
                               pairs.lines.empty() ? "merge " : "line ", pairs.lines.empty() ? i + 1 : pairs.lines[i],
                               ": ", detail::ShownToken{left}, " and ", detail::ShownToken{right},
                               ": the vocabulary has no ", detail::ShownToken{token});
          return found->second;
        };
        (joined = left) += right;
        const token_t a = id_of(left);
        const token_t b = id_of(right);
        const token_t merged = id_of(joined);
        merges.set(a, b, {static_cast<token_t>(i), merged});
        for (const token_t id : {a, b, merged}) add(id);
      }
      hash = sum.value();
    }

    /// Fills `words` with the words that become one token: nearly all of a text's are found there.
    void find_words() {
      Scratch scratch;
      std::vector<token_t> tokens;
      for (std::size_t id = 0; id < ends.size(); ++id) {
        const std::string_view word = bytes_of(id);
        if (!spelt[id] || word.empty()) continue;
        tokens.clear();
        if (!options.ignore_merges) merge(word, scratch, tokens);
        if (options.ignore_merges || (tokens.size() == 1 && tokens[0] == static_cast<token_t>(id))) {
          words.insert(detail::Word(word), static_cast<token_t>(id));
        }
      }
    }

    [[nodiscard]] std::string_view bytes_of(std::size_t id) const {
      const std::size_t begin = id == 0 ? 0 : ends[id - 1];
      return std::string_view(text).substr(begin, ends[id] - begin);
    }

    /// Appends the ids of a word.
    void merge(std::string_view word, Scratch& scratch, std::vector<token_t>& tokens) const {
      std::vector<Symbol>& symbols = scratch.symbols;
      std::vector<Candidate>& queue = scratch.queue;
      symbols.clear();
      queue.clear();
      const std::size_t none = word.size();
      for (std::size_t i = 0; i < word.size(); ++i) {
        symbols.push_back({of_byte[static_cast<unsigned char>(word[i])], i == 0 ? none : i - 1, i + 1});
      }
      // Gives the pair that begins at a symbol, where it can be merged.
      const auto candidate = [&](std::size_t at) {
        const std::size_t next = symbols[at].next;
        const detail::Merge* const merge = next == none ? nullptr : merges.find(symbols[at].token, symbols[next].token);
        return merge == nullptr ? Candidate{-1, -1, at} : Candidate{merge->rank, merge->merged, at};
      };
      const auto push = [&](std::size_t at) {
        const Candidate found = candidate(at);
        if (found.rank < 0) return;
        queue.push_back(found);
        std::push_heap(queue.begin(), queue.end(), std::greater<>());
      };
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        const Candidate found = candidate(i);
        if (found.rank >= 0) queue.push_back(found);
      }
      std::make_heap(queue.begin(), queue.end(), std::greater<>());
      while (!queue.empty()) {
        const Candidate best = queue.front();
        std::pop_heap(queue.begin(), queue.end(), std::greater<>());
        queue.pop_back();
        Symbol& left = symbols[best.at];
        if (left.token < 0 || candidate(best.at).merged != best.merged)
          continue;  // one of the two was merged meanwhile
        Symbol& right = symbols[left.next];
        left.token = best.merged;
        left.next = right.next;
        right.token = -1;
        if (left.next != none) {
          symbols[left.next].previous = best.at;
          push(best.at);
        }
        if (left.previous != none) push(left.previous);
      }
      for (std::size_t i = 0; i < none; i = symbols[i].next) tokens.push_back(symbols[i].token);
    }

    ByteLevelBpeOptions options;
    std::string text;                 // the bytes of all tokens, by id
    std::vector<std::uint64_t> ends;  // of each in it
    std::vector<bool> spelt;          // in the byte alphabet: other tokens are in no text
    std::array<token_t, 256> of_byte{};
    detail::PairTable merges;
    detail::WordTable<token_t> words;
    std::uint64_t hash = 0;
  };

  void require(token_t token) const {
    expects<ArgumentError>(token >= 0 && token < vocab_size(), op, "token ", token, " is not in the vocabulary of ",
                           vocab_size());
  }

  std::shared_ptr<const Model> model_;
};
static_assert(Tokenizer<ByteLevelBpe>);

}  // namespace storylm
