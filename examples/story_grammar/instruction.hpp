// SPDX-License-Identifier: MIT
/// @file
/// @brief What a record says about its story: words that it uses, features that it has, and the instruction.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "template.hpp"

namespace story_grammar {

/// @brief The number of words of a text, by white space.
inline std::size_t count_words(std::string_view text) {
  std::size_t count = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n';
    if (!space && !inside) ++count;
    inside = !space;
  }
  return count;
}

namespace internal {

/// A verb and the form in which the stories, told in the past, have it.
struct Verb {
  std::string_view base;
  std::string_view past;
};

inline constexpr std::array<Verb, 46> verbs = {{
    {"play", "played"},     {"look", "looked"},   {"find", "found"},   {"run", "ran"},       {"jump", "jumped"},
    {"laugh", "laughed"},   {"cry", "cried"},     {"help", "helped"},  {"call", "called"},   {"shout", "shouted"},
    {"walk", "walked"},     {"sleep", "slept"},   {"eat", "ate"},      {"share", "shared"},  {"wait", "waited"},
    {"fall", "fell"},       {"break", "broke"},   {"hide", "hid"},     {"pull", "pulled"},   {"push", "pushed"},
    {"climb", "climbed"},   {"sing", "sang"},     {"dance", "danced"}, {"smile", "smiled"},  {"hug", "hugged"},
    {"carry", "carried"},   {"bring", "brought"}, {"give", "gave"},    {"take", "took"},     {"hold", "held"},
    {"swim", "swam"},       {"fly", "flew"},      {"open", "opened"},  {"throw", "threw"},   {"think", "thought"},
    {"hear", "heard"},      {"grow", "grew"},     {"draw", "drew"},    {"forget", "forgot"}, {"want", "wanted"},
    {"follow", "followed"}, {"stop", "stopped"},  {"try", "tried"},    {"lose", "lost"},     {"bake", "baked"},
    {"make", "made"},
}};

inline constexpr std::array<std::string_view, 62> nouns = {
    "ball",   "tree",   "house", "garden",  "pond",      "moon",        "water",   "boat",   "cake",
    "sugar",  "salt",   "seed",  "leaf",    "kite",      "balloon",     "wind",    "string", "ladder",
    "snow",   "hat",    "sun",   "rain",    "mushroom",  "wolf",        "river",   "mud",    "hole",
    "tummy",  "wing",   "leg",   "box",     "butterfly", "caterpillar", "window",  "door",   "bed",
    "lamp",   "noise",  "night", "dark",    "blanket",   "soup",        "picture", "book",   "bench",
    "school", "friend", "race",  "stick",   "thorn",     "net",         "key",     "rope",   "duck",
    "grass",  "sign",   "face",  "morning", "table",     "pillow",      "voice",   "hand"};

inline constexpr std::array<std::string_view, 57> adjectives = {
    "little", "big",   "small", "happy", "sad",   "red",      "blue",  "green",  "yellow", "pink",  "purple", "orange",
    "white",  "cold",  "warm",  "wet",   "dry",   "dark",     "quiet", "soft",   "sweet",  "kind",  "angry",  "scared",
    "afraid", "brave", "proud", "shy",   "funny", "old",      "new",   "sick",   "hungry", "fast",  "slow",   "strong",
    "tired",  "hard",  "good",  "bad",   "tall",  "tiny",     "shiny", "pretty", "bright", "windy", "rainy",  "sunny",
    "gray",   "black", "clear", "nice",  "young", "cheerful", "best",  "same",   "sorry"};

/// The words of a text in lower case, without punctuation.
inline std::unordered_set<std::string> word_set(std::string_view text) {
  std::unordered_set<std::string> words;
  std::string word;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalpha(u) != 0) {
      word += static_cast<char>(std::tolower(u));
    } else if (!word.empty()) {
      words.insert(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.insert(word);
  return words;
}

}  // namespace internal

/// @brief One verb, one noun and one adjective that the text really uses, in the order of TinyStories' records.
inline std::vector<std::string> words_used(std::string_view text, Random random) {
  const std::unordered_set<std::string> present = internal::word_set(text);
  const auto has = [&](std::string_view word) { return present.count(std::string(word)) > 0; };
  std::vector<std::string> chosen;
  std::vector<std::string_view> found;
  const auto pick = [&] {
    if (!found.empty()) chosen.emplace_back(found[random.below(found.size())]);
    found.clear();
  };
  for (const internal::Verb& verb : internal::verbs) {
    if (has(verb.base) || has(verb.past)) found.push_back(verb.base);
  }
  pick();
  for (const std::string_view noun : internal::nouns) {
    if (has(noun)) found.push_back(noun);
  }
  pick();
  for (const std::string_view adjective : internal::adjectives) {
    if (has(adjective) && std::find(chosen.begin(), chosen.end(), adjective) == chosen.end())
      found.push_back(adjective);
  }
  pick();
  return chosen;
}

/// @brief The features that the grammar marked, once each and in a fixed order, and Dialogue where there is speech.
inline std::vector<std::string> features_of(std::string_view text, const std::vector<std::string>& marked) {
  std::vector<std::string> features;
  if (text.find('"') != std::string_view::npos) features.emplace_back("Dialogue");
  for (const std::string_view feature : {"Conflict", "Twist", "MoralValue"}) {
    if (std::find(marked.begin(), marked.end(), feature) != marked.end()) features.emplace_back(feature);
  }
  return features;
}

/// @brief The instruction of a record, in the words of TinyStories' instructions.
inline std::string instruction_prompt(const std::vector<std::string>& words, const std::vector<std::string>& features) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> phrases = {
      {{"Dialogue", "the story should contain at least one dialogue"},
       {"Conflict", "the story has some form of conflict in it"},
       {"Twist", "something unexpected happens / there is a plot twist"},
       {"MoralValue", "the story has a moral value"}}};
  std::string prompt =
      "Write a short story (3-5 paragraphs) which only uses very simple words that a 3 year old child would "
      "understand.";
  if (words.size() == 3) {
    prompt += " The story should use the verb \"" + words[0] + "\", the noun \"" + words[1] +
              "\" and the adjective \"" + words[2] + "\".";
  }
  if (!features.empty()) {
    prompt += " The story has the following features: ";
    for (std::size_t i = 0; i < features.size(); ++i) {
      for (const auto& [name, phrase] : phrases) {
        if (name == features[i]) prompt += (i > 0 ? ", " : "") + std::string(phrase);
      }
    }
    prompt += ".";
  }
  return prompt + " Remember to only use simple words!\n\nPossible story:";
}

}  // namespace story_grammar
