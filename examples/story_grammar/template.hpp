// SPDX-License-Identifier: MIT
/// @file
/// @brief The little language in which the plots are written, and the random numbers that choose between variants.
///
/// A template is text with five kinds of marks:
///   `[a|b|c]`     one of the variants, `[3*a|b]` with weights, `[a|]` for an optional part;
///   `[#key a|b]`  the same, but every choice with this key takes the same position in one story, which is how a
///                 later sentence follows from an earlier one;
///   `{slot}`      a name, a pronoun, a variable, or a word of the lexicon that stays the same through the story;
///   `<rule>`      a shared template, expanded anew each time;  `<x=text>` sets the variable {x};
///   `{+Feature}`  prints nothing and records that the story has this feature;  `~` begins a new paragraph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace story_grammar {

/// @brief A mistake in the grammar's own text (an unknown slot, an open bracket): never the user's fault.
class GrammarError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// @brief SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every platform, unlike std:: distributions.
class Random {
 public:
  /// @brief A stream of its own for each (seed, story, attempt), so that story i does not depend on stories before it.
  Random(std::uint64_t seed, std::uint64_t story, std::uint64_t attempt)
      : state_(mix(mix(mix(seed) ^ story) + attempt * 0x9E3779B97F4A7C15ULL)) {}

  /// @brief A number in [0, bound); bound must be positive and below 2^32.
  std::size_t below(std::size_t bound) {
    state_ += 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(((mix(state_) >> 32U) * static_cast<std::uint64_t>(bound)) >> 32U);
  }

 private:
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }
  std::uint64_t state_;
};

/// @brief Expands templates for one story; remembers what the story has chosen so far.
class Expander {
 public:
  /// Finds the text of a rule; returns an empty pointer when there is none.
  using RuleLookup = std::function<const std::string_view*(std::string_view)>;
  /// Finds the words of a lexicon list; returns an empty pointer when there is none.
  using WordLookup = std::function<const std::vector<std::string_view>*(std::string_view)>;

  /// @brief An expander over the given rules and lexicon; `placeholders` prints a list's name instead of its word.
  Expander(Random random, RuleLookup rules, WordLookup words, bool placeholders)
      : random_(random), rules_(std::move(rules)), words_(std::move(words)), placeholders_(placeholders) {}

  /// @brief Gives the slot or variable `name` a text for the rest of the story.
  void set(std::string_view name, std::string text) { variables_[std::string(name)] = std::move(text); }

  /// @brief The text of a template with every mark replaced. @throws GrammarError where a mark cannot be read.
  std::string expand(std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c == '[' || c == '{' || c == '<') {
        const std::size_t end = closing(text, at);
        const std::string_view inside = text.substr(at + 1, end - at - 1);
        out += c == '[' ? choose(inside) : c == '{' ? slot(inside) : rule(inside);
        at = end + 1;
      } else if (c == ']' || c == '}' || c == '>' || c == '|') {
        fail("a stray mark", text.substr(at));
      } else {
        out += c;
        ++at;
      }
    }
    return out;
  }

  /// @brief The features recorded so far, in the order in which the text named them.
  [[nodiscard]] const std::vector<std::string>& features() const { return features_; }

  /// @brief The random stream, for choices made outside templates.
  Random& random() { return random_; }

 private:
  [[noreturn]] static void fail(std::string_view what, std::string_view where) {
    throw GrammarError("[story_grammar] " + std::string(what) + ": " + std::string(where.substr(0, 80)));
  }

  static std::size_t closing(std::string_view text, std::size_t open) {
    std::string expected;
    for (std::size_t at = open; at < text.size(); ++at) {
      const char c = text[at];
      if (c == '[') expected += ']';
      if (c == '{') expected += '}';
      if (c == '<') expected += '>';
      if (c == ']' || c == '}' || c == '>') {
        if (expected.empty() || expected.back() != c) fail("marks that cross", text.substr(open));
        expected.pop_back();
        if (expected.empty()) return at;
      }
    }
    fail("a mark is never closed", text.substr(open));
  }

  static std::vector<std::string_view> variants(std::string_view inside) {
    std::vector<std::string_view> parts;
    int depth = 0;
    std::size_t begin = 0;
    for (std::size_t at = 0; at < inside.size(); ++at) {
      const char c = inside[at];
      if (c == '[' || c == '{' || c == '<') ++depth;
      if (c == ']' || c == '}' || c == '>') --depth;
      if (c == '|' && depth == 0) {
        parts.push_back(inside.substr(begin, at - begin));
        begin = at + 1;
      }
    }
    parts.push_back(inside.substr(begin));
    return parts;
  }

  std::string choose(std::string_view inside) {
    std::string key;
    if (!inside.empty() && inside.front() == '#') {
      const std::size_t space = inside.find_first_of(" \n");
      if (space == std::string_view::npos) fail("a key without variants", inside);
      key = std::string(inside.substr(1, space - 1));
      inside.remove_prefix(space + 1);
    }
    std::vector<std::string_view> parts = variants(inside);
    std::vector<std::size_t> tickets;  // one entry per unit of weight
    for (std::size_t i = 0; i < parts.size(); ++i) {
      std::size_t weight = 1;
      if (parts[i].size() > 1 && parts[i][0] >= '1' && parts[i][0] <= '9' && parts[i][1] == '*') {
        weight = static_cast<std::size_t>(parts[i][0] - '0');
        parts[i].remove_prefix(2);
      }
      tickets.insert(tickets.end(), weight, i);
    }
    if (key.empty()) return expand(parts[tickets[random_.below(tickets.size())]]);
    auto found = keys_.find(key);
    if (found == keys_.end()) {
      found = keys_.emplace(key, Key{tickets[random_.below(tickets.size())], parts.size()}).first;
    }
    if (found->second.count != parts.size()) fail("a key used with another number of variants", key);
    return expand(parts[found->second.chosen]);
  }

  std::string slot(std::string_view name) {
    if (!name.empty() && name.front() == '+') {
      features_.emplace_back(name.substr(1));
      return {};
    }
    if (const auto found = variables_.find(std::string(name)); found != variables_.end()) return found->second;
    const std::vector<std::string_view>* list = words_(name);
    if (list == nullptr) fail("an unknown slot", name);
    std::size_t chosen = random_.below(list->size());
    // Two slots never hold the same word: a rabbit does not meet "a rabbit", as if there were only one.
    for (std::size_t i = 0; i < list->size() && !used_.emplace((*list)[chosen]).second; ++i) {
      chosen = (chosen + 1) % list->size();
    }
    std::string word = placeholders_ ? "(" + std::string(name) + ")" : std::string((*list)[chosen]);
    set(name, word);
    return word;
  }

  std::string rule(std::string_view inside) {
    if (const std::size_t equals = inside.find('='); equals != std::string_view::npos) {
      std::string value = expand(inside.substr(equals + 1));
      set(inside.substr(0, equals), std::move(value));
      return {};
    }
    const std::string_view* text = rules_(inside);
    if (text == nullptr) fail("an unknown rule", inside);
    return expand(*text);
  }

  struct Key {
    std::size_t chosen;
    std::size_t count;
  };
  Random random_;
  RuleLookup rules_;
  WordLookup words_;
  bool placeholders_;
  std::map<std::string, std::string> variables_;
  std::map<std::string, Key> keys_;
  std::set<std::string_view> used_;
  std::vector<std::string> features_;
};

}  // namespace story_grammar
