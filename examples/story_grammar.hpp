// SPDX-License-Identifier: MIT
/// @file
/// @brief A seeded grammar of children's stories: the demo corpus is made by the project itself.
///
/// Story i of seed s is the same on every platform, because nothing here uses std:: distributions or their engines.
/// Each story has one cast: every name is there by the third sentence, and none comes later.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "story_grammar/instruction.hpp"
#include "story_grammar/lexicon.hpp"
#include "story_grammar/plot.hpp"
#include "story_grammar/plots_animals.hpp"
#include "story_grammar/plots_friends.hpp"
#include "story_grammar/plots_home.hpp"
#include "story_grammar/template.hpp"

namespace story_grammar {

/// @brief A story never has fewer words than this.
inline constexpr std::size_t min_words = 60;
/// @brief A story never has more words than this: it fits the 256 positions of the demo's model.
inline constexpr std::size_t max_words = 140;

/// @brief One story and what is said about it in a record of the corpus.
struct Story {
  std::string plot;                   ///< the name of its plot
  std::string text;                   ///< paragraphs, separated by one newline each
  std::string skeleton;               ///< the same with names, pronouns and lexicon words as placeholders
  std::string summary;                ///< one or two sentences
  std::vector<std::string> words;     ///< a verb, a noun and an adjective that the text uses
  std::vector<std::string> features;  ///< of the seven that TinyStories knows, those that the text has
};

/// @brief Every name that a character can have.
inline std::vector<std::string_view> character_names() {
  std::vector<std::string_view> names = girl_names();
  names.insert(names.end(), boy_names().begin(), boy_names().end());
  return names;
}

/// @brief All plots of the grammar.
inline const std::vector<Plot>& plots() {
  static const std::vector<Plot> all = [] {
    std::vector<Plot> joined = home_plots();
    for (const auto& more : {friend_plots(), animal_plots()}) joined.insert(joined.end(), more.begin(), more.end());
    return joined;
  }();
  return all;
}

namespace internal {

/// Source line breaks become spaces, `~` becomes a newline, and "a" becomes "an" before a vowel.
inline std::string tidy(std::string_view raw) {
  std::string out;
  for (const char c : raw) {
    if (c == '~') {
      while (!out.empty() && out.back() == ' ') out.pop_back();
      if (!out.empty()) out += '\n';
    } else if (c == ' ' || c == '\n') {
      if (!out.empty() && out.back() != ' ' && out.back() != '\n') out += ' ';
    } else {
      const std::size_t size = out.size();
      const bool after_a = size >= 2 && out[size - 1] == ' ' && (out[size - 2] == 'a' || out[size - 2] == 'A') &&
                           (size == 2 || std::isalpha(static_cast<unsigned char>(out[size - 3])) == 0);
      if (after_a && std::string_view("aeiou").find(c) != std::string_view::npos) out.insert(size - 1, "n");
      out += c;
    }
  }
  while (!out.empty() && (out.back() == ' ' || out.back() == '\n')) out.pop_back();
  return out;
}

/// FNV-1a (std::hash may differ from platform to platform, and with it which story is left out).
inline std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

/// How a character is referred to; `suffix` is empty for the hero and "2" for the second character.
inline void set_character(Expander& expander, bool girl, const std::string& suffix, bool placeholders) {
  const auto set = [&](std::string_view slot, std::string_view for_girl, std::string_view for_boy) {
    const std::string name = std::string(slot) + suffix;
    expander.set(name, placeholders ? "(" + name + ")" : std::string(girl ? for_girl : for_boy));
  };
  set("girl", "girl", "boy");
  set("sister", "sister", "brother");
  set("he", "she", "he");
  set("him", "her", "him");
  set("his", "her", "his");
  set("He", "She", "He");
  set("His", "Her", "His");
  set("self", "herself", "himself");
}

/// Both renderings draw the same numbers, so that the skeleton is the text with its words taken out.
inline std::pair<Story, bool> render(std::uint64_t seed, std::uint64_t number, std::uint64_t attempt,
                                     bool placeholders) {
  const auto rules = [](std::string_view name) -> const std::string_view* {
    const auto found = shared_rules().find(name);
    return found == shared_rules().end() ? nullptr : &found->second;
  };
  const auto words = [](std::string_view name) -> const std::vector<std::string_view>* {
    const auto found = word_lists().find(name);
    return found == word_lists().end() ? nullptr : &found->second;
  };
  Expander expander(Random(seed, number, attempt), rules, words, placeholders);
  Random& random = expander.random();

  const Plot& plot = plots()[random.below(plots().size())];
  // A boy and a girl in every pair: so "he" and "she" always say who is meant.
  const bool girl = random.below(2) == 0;
  const std::vector<std::string_view>& own = girl ? girl_names() : boy_names();
  const std::vector<std::string_view>& other = girl ? boy_names() : girl_names();
  const std::string_view first = own[random.below(own.size())];
  const std::string_view second = other[random.below(other.size())];
  expander.set("A", placeholders ? "(A)" : std::string(first));
  expander.set("B", placeholders ? "(B)" : std::string(second));
  set_character(expander, girl, "", placeholders);
  set_character(expander, !girl, "2", placeholders);
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> grown_ups = {
      {{"mom", "Mom"}, {"mom", "Mom"}, {"dad", "Dad"}, {"dad", "Dad"}, {"grandma", "Grandma"}, {"grandpa", "Grandpa"}}};
  const auto& grown_up = grown_ups[random.below(grown_ups.size())];
  expander.set("mom", placeholders ? "(mom)" : std::string(grown_up.first));
  expander.set("Mom", placeholders ? "(Mom)" : std::string(grown_up.second));

  Story story;
  story.plot = std::string(plot.name);
  story.text = tidy(expander.expand(plot.story));
  story.summary = tidy(expander.expand(plot.summary));
  story.features = expander.features();
  const std::size_t count = count_words(story.text);
  return {std::move(story), count >= min_words && count <= max_words};
}

}  // namespace internal

/// @brief Story `number` of a seed; `attempt` gives another one in its place. @throws GrammarError
inline Story make_story(std::uint64_t seed, std::uint64_t number, std::uint64_t attempt = 0) {
  constexpr std::uint64_t tries = 1000;  // for one of a fitting length; nearly all fit at once
  for (std::uint64_t i = 0; i < tries; ++i) {
    auto [story, fits] = internal::render(seed, number, attempt * tries + i, false);
    if (!fits) continue;
    story.skeleton = internal::render(seed, number, attempt * tries + i, true).first.text;
    story.words = words_used(story.text, Random(seed, number, ~attempt));
    story.features = features_of(story.text, story.features);
    return story;
  }
  throw GrammarError("[story_grammar] no story of a fitting length in " + std::to_string(tries) + " tries");
}

/// @brief The stories of a seed one after another, none of them twice.
class StoryStream {
 public:
  /// @brief A stream that begins at story 0 of `seed`.
  explicit StoryStream(std::uint64_t seed) : seed_(seed) {}

  /// @brief The next story. @throws std::runtime_error when the grammar has no more new ones to give.
  Story next() {
    constexpr std::uint64_t tries = 1000;
    for (std::uint64_t attempt = 0; attempt < tries; ++attempt) {
      Story story = make_story(seed_, number_, attempt);
      if (!seen_.insert(internal::hash_of(story.text)).second) continue;
      ++number_;
      return story;
    }
    throw std::runtime_error("[StoryStream] no new story in " + std::to_string(tries) + " tries after " +
                             std::to_string(number_) + " stories: ask for fewer");
  }

 private:
  std::uint64_t seed_;
  std::uint64_t number_ = 0;
  std::unordered_set<std::uint64_t> seen_;  // hashes: two stories that share one cost the later story, no more
};

}  // namespace story_grammar
