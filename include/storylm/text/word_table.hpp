// SPDX-License-Identifier: MIT
/// @file
/// @brief A hash table of words for very many look-ups: what encoding and counting spend their time on.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace storylm::detail {

/// A word with its first eight bytes as one number, filled up with zeros: most words are no longer than that.
struct Word {
  std::string_view text;
  std::uint64_t head = 0;

  Word() = default;
  explicit Word(std::string_view word) : text(word) {
    std::memcpy(&head, word.data(), std::min(word.size(), sizeof head));
  }
};

/// Takes the first word and the space behind it off `text`, which is not empty.
[[nodiscard]] inline Word take_word(std::string_view& text) {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  Word word;
  if (std::endian::native == std::endian::little && text.size() >= sizeof word.head) {
    std::uint64_t bytes;
    std::memcpy(&bytes, text.data(), sizeof bytes);
    const std::uint64_t other = bytes ^ (ones * ' ');  // a byte is zero where there is a space
    const std::uint64_t spaces = (other - ones) & ~other & (ones << 7U);
    if (spaces != 0) {  // its lowest bit set is that of the first space
      const auto bits = static_cast<unsigned>(std::countr_zero(spaces)) & ~7U;
      word.head = bytes & ((std::uint64_t{1} << bits) - 1);
      word.text = text.substr(0, bits / 8);
      text.remove_prefix(bits / 8 + 1);
      return word;
    }
  }
  const std::size_t end = text.find(' ');
  word = Word(text.substr(0, end));
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

/// Values of words. Open addressing with linear probing; the bytes of all words lie in one string.
template <class Value>
class WordTable {
 public:
  WordTable() : slots_(initial_slots) {}

  /// The value of `word`; null when it is not there. Valid until the next insert().
  [[nodiscard]] Value* find(const Word& word) noexcept {
    for (std::size_t i = hash(word);; ++i) {
      Slot& slot = slots_[i & (slots_.size() - 1)];
      if (slot.size == 0) return nullptr;
      if (slot.head == word.head && slot.size == word.text.size() + 1 && same_tail(slot, word)) return &slot.value;
    }
  }
  [[nodiscard]] const Value* find(const Word& word) const noexcept { return const_cast<WordTable*>(this)->find(word); }
  /// Adds a word that is not there.
  Value& insert(const Word& word, const Value& value) {
    if (2 * (++words_) > slots_.size()) grow();
    const std::uint64_t begin = bytes_.size();
    bytes_ += word.text;
    Slot& slot = free_slot(word);
    return (slot = {word.head, begin, word.text.size() + 1, value}).value;
  }
  void clear() noexcept {
    slots_.assign(slots_.size(), Slot{});
    bytes_.clear();
    words_ = 0;
  }

  /// Number of words.
  [[nodiscard]] std::size_t size() const noexcept { return words_; }
  /// Memory of all words and values, about.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_.size() + slots_.size() * sizeof(Slot); }
  /// Calls f(word, value) for each, in no particular order.
  template <class F>
  void for_each(F&& f) const {
    for (const Slot& slot : slots_) {
      if (slot.size != 0) f(text(slot), slot.value);
    }
  }

 private:
  static constexpr std::size_t initial_slots = std::size_t{1} << 12U;

  struct Slot {
    std::uint64_t head = 0;
    std::uint64_t begin = 0;  // in bytes_
    std::uint64_t size = 0;   // and one more; 0: free
    Value value{};
  };

  /// Multiplies and folds, eight bytes at a time: W. Yi, "wyhash", without its secrets.
  static std::size_t hash(const Word& word) noexcept {
    std::uint64_t h = fold(word.head ^ (word.text.size() * 0x9E3779B97F4A7C15U));
    for (std::size_t at = sizeof word.head; at < word.text.size(); at += sizeof word.head) {
      h = fold(h ^ Word(word.text.substr(at)).head);
    }
    return static_cast<std::size_t>(h);
  }
  static std::uint64_t fold(std::uint64_t value) noexcept {
    value *= 0xD6E8FEB86659FD93U;
    value ^= value >> 32U;
    value *= 0xD6E8FEB86659FD93U;
    return value ^ (value >> 32U);
  }
  [[nodiscard]] std::string_view text(const Slot& slot) const noexcept {
    return std::string_view(bytes_).substr(slot.begin, slot.size - 1);
  }
  [[nodiscard]] bool same_tail(const Slot& slot, const Word& word) const noexcept {
    constexpr std::size_t head = sizeof word.head;
    return word.text.size() <= head ||
           std::memcmp(bytes_.data() + slot.begin + head, word.text.data() + head, word.text.size() - head) == 0;
  }
  [[nodiscard]] Slot& free_slot(const Word& word) noexcept {
    std::size_t i = hash(word);
    while (slots_[i & (slots_.size() - 1)].size != 0) ++i;
    return slots_[i & (slots_.size() - 1)];
  }
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.size != 0) free_slot(Word(text(slot))) = slot;
    }
  }

  std::vector<Slot> slots_;  // a power of two, at most half of them taken
  std::string bytes_;
  std::size_t words_ = 0;
};

}  // namespace storylm::detail
