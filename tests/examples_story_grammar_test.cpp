// SPDX-License-Identifier: MIT
// LINK: io
// The demo corpus: enough different stories, correct in every sentence that the grammar can make.
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <boost/json.hpp>
#include <doctest/doctest.h>

#include <storylm/core/error.hpp>

#include "../examples/story_grammar.hpp"
#include "../examples/story_grammar/shards.hpp"
#include "story_support.hpp"

namespace {

using story_grammar::Story;
using storylm::test::end_of_third_sentence;
using storylm::test::words_of;

const std::vector<Story>& corpus() {
  static const std::vector<Story> stories = [] {
    std::vector<Story> made;
    story_grammar::StoryStream stream(1);
    for (int i = 0; i < 24'000; ++i) made.push_back(stream.next());
    return made;
  }();
  return stories;
}

bool is_upper(char c) { return std::isupper(static_cast<unsigned char>(c)) != 0; }

// Names, and words that the lexicon puts in, replaced in the finished text: independent of how it was made.
std::string with_placeholders(const std::string& text) {
  static const std::unordered_set<std::string_view> names = [] {
    const auto all = story_grammar::character_names();
    return std::unordered_set<std::string_view>(all.begin(), all.end());
  }();
  static const std::unordered_set<std::string> objects = [] {
    std::unordered_set<std::string> found;
    for (const auto& [list, entries] : story_grammar::word_lists()) {
      for (const std::string_view entry : entries) {
        for (const auto& [word, at] : words_of(entry)) found.insert(word);
      }
    }
    return found;
  }();
  static const std::map<std::string, std::string> folded = {
      {"she", "he"},      {"She", "He"},      {"her", "his"},        {"him", "his"},         {"Her", "His"},
      {"girl", "boy"},    {"an", "a"},        {"sister", "brother"}, {"herself", "himself"}, {"mom", "dad"},
      {"grandma", "dad"}, {"grandpa", "dad"}, {"Mom", "Dad"},        {"Grandma", "Dad"},     {"Grandpa", "Dad"}};
  std::string out;
  std::size_t copied = 0;
  for (const auto& [word, at] : words_of(text)) {
    out += text.substr(copied, at - copied);
    if (names.count(word) > 0) {
      out += "NAME";
    } else if (objects.count(word) > 0) {
      out += "OBJECT";
    } else {
      const auto found = folded.find(word);
      out += found == folded.end() ? word : found->second;
    }
    copied = at + word.size();
  }
  return out + text.substr(copied);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    path = std::filesystem::temp_directory_path() / "storylm_story_grammar_test";
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

TEST_CASE("24,000 stories: at least 20,000 different, 10,000 of them in structure") {
  std::unordered_set<std::string> texts;
  std::unordered_set<std::string> skeletons;
  std::unordered_set<std::string> replaced;
  std::map<std::string, int> plots;
  std::size_t once = 0;
  for (const Story& story : corpus()) {
    texts.insert(story.text);
    skeletons.insert(story.skeleton);
    replaced.insert(with_placeholders(story.text));
    ++plots[story.plot];
    if (story.text.rfind("Once upon a time ", 0) == 0) ++once;
  }
  CHECK(texts.size() >= 20'000);
  CHECK(texts.size() == corpus().size());
  CHECK(skeletons.size() >= 10'000);
  CHECK(replaced.size() >= 10'000);
  CHECK(plots.size() >= 12);
  CHECK(plots.size() == story_grammar::plots().size());
  for (const auto& entry : plots) {
    CAPTURE(entry.first);
    CHECK(entry.second > 500);
  }
  CHECK(once > corpus().size() * 2 / 5);
  CHECK(once < corpus().size() * 4 / 5);
}

TEST_CASE("every story is 60 to 250 words in whole sentences") {
  for (const Story& story : corpus()) {
    const std::string& text = story.text;
    CAPTURE(text);
    std::istringstream stream(text);
    const auto count = std::distance(std::istream_iterator<std::string>(stream), {});
    REQUIRE(count >= 60);
    REQUIRE(count <= 250);
    const auto paragraphs = 1 + std::count(text.begin(), text.end(), '\n');
    REQUIRE(paragraphs >= 3);
    REQUIRE(paragraphs <= 5);
    REQUIRE(is_upper(text.front()));
    REQUIRE(std::string_view(".!?\"").find(text.back()) != std::string_view::npos);
    REQUIRE(text.find_first_of("[]{}<>|~#()*+=_") == std::string::npos);
    for (const std::string_view wrong : {"  ", " .", " ,", " !", " ?", ",.", "..", "?.", "!.", ",,", ".,", "?,", "!,",
                                         " \n", "\n\n", "\n ", " a a ", " the the ", "\" \" "}) {
      CAPTURE(wrong);
      REQUIRE(text.find(wrong) == std::string::npos);
    }
  }
}

TEST_CASE("quotes are balanced, begin a word and end a sentence or a clause") {
  for (const Story& story : corpus()) {
    const std::string& text = story.text;
    CAPTURE(text);
    bool open = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') REQUIRE_FALSE(open);  // no speech across paragraphs
      if (text[i] != '"') continue;
      open = !open;
      if (open) {
        REQUIRE(i + 1 < text.size());
        REQUIRE(is_upper(text[i + 1]));
        REQUIRE((i == 0 || text[i - 1] == ' ' || text[i - 1] == '\n'));
      } else {
        REQUIRE(std::string_view(".,!?").find(text[i - 1]) != std::string_view::npos);
        REQUIRE((i + 1 == text.size() || text[i + 1] == ' ' || text[i + 1] == '\n'));
      }
    }
    REQUIRE_FALSE(open);
  }
}

TEST_CASE("a capital follows every end of a sentence, and speech without an end is followed by a small letter") {
  std::unordered_set<std::string> names;
  for (const std::string_view name : story_grammar::character_names()) names.emplace(name);
  for (const Story& story : corpus()) {
    const std::string& text = story.text;
    CAPTURE(text);
    for (std::size_t i = 0; i + 2 < text.size(); ++i) {
      const bool end = std::string_view(".!?").find(text[i]) != std::string_view::npos;
      if (end && text[i + 1] != '"') {
        REQUIRE((text[i + 1] == ' ' || text[i + 1] == '\n'));
        REQUIRE((is_upper(text[i + 2]) || text[i + 2] == '"'));
      }
      if (text[i] == ',' && text[i + 1] == '"') {
        // "..., said" or "..., Lily said": never a sentence of its own
        const std::string next = words_of(std::string_view(text).substr(i + 2, 40)).front().first;
        REQUIRE((!is_upper(next.front()) || names.count(next) > 0));
      }
      if (text[i] == '.' && text[i + 1] == '"' && i + 3 < text.size()) {
        REQUIRE((is_upper(text[i + 3]) || text[i + 3] == '"'));
      }
    }
  }
}

TEST_CASE("one cast: every name is there by the third sentence, and none comes later") {
  std::unordered_set<std::string> names;
  for (const std::string_view name : story_grammar::character_names()) names.emplace(name);
  CHECK(names.size() >= 60);
  CHECK(names.size() == story_grammar::character_names().size());
  for (const Story& story : corpus()) {
    const std::string& text = story.text;
    CAPTURE(text);
    const std::size_t introduced = end_of_third_sentence(text);
    std::set<std::string> cast;
    for (const auto& [word, at] : words_of(text)) {
      if (names.count(word) == 0) continue;
      if (at < introduced) cast.insert(word);
      REQUIRE(cast.count(word) == 1);
    }
    REQUIRE(!cast.empty());
    REQUIRE(cast.size() <= 2);
    for (const auto& [word, at] : words_of(story.summary)) {
      if (names.count(word) > 0) REQUIRE(cast.count(word) == 1);
    }
    for (const auto& [word, at] : words_of(story.skeleton)) REQUIRE(names.count(word) == 0);
  }
}

TEST_CASE("pronouns agree: where the hero is the only person, no word of the other kind occurs") {
  const std::unordered_set<std::string> for_girls = {"she", "her", "herself", "girl"};
  const std::unordered_set<std::string> for_boys = {"he", "him", "his", "himself", "boy"};
  const std::unordered_set<std::string_view> girls(story_grammar::girl_names().begin(),
                                                   story_grammar::girl_names().end());
  // There a grandmother or a stranger at the door is "she" or "he" too.
  const std::set<std::string> with_others = {"cake", "found_pet"};
  std::size_t checked = 0;
  for (const Story& story : corpus()) {
    if (story.skeleton.find("(B)") != std::string::npos || with_others.count(story.plot) > 0) continue;
    ++checked;
    CAPTURE(story.text);
    const auto words = words_of(story.text);
    const bool girl =
        std::any_of(words.begin(), words.end(), [&](const auto& word) { return girls.count(word.first) > 0; });
    for (auto [word, at] : words) {
      word.front() = static_cast<char>(std::tolower(static_cast<unsigned char>(word.front())));
      REQUIRE((girl ? for_boys : for_girls).count(word) == 0);
    }
  }
  CHECK(checked > 5'000);
}

TEST_CASE("pronouns agree: of two persons, one is a girl and one a boy, and He or She after the first is the hero") {
  const std::unordered_set<std::string_view> girls(story_grammar::girl_names().begin(),
                                                   story_grammar::girl_names().end());
  const std::unordered_set<std::string_view> boys(story_grammar::boy_names().begin(), story_grammar::boy_names().end());
  std::size_t checked = 0;
  for (const Story& story : corpus()) {
    CAPTURE(story.text);
    std::set<std::string> of_girls;
    std::set<std::string> of_boys;
    bool hero_is_girl = false;
    const auto words = words_of(story.text);
    for (const auto& [word, at] : words) {
      if (of_girls.empty() && of_boys.empty()) hero_is_girl = girls.count(word) > 0;
      if (girls.count(word) > 0) of_girls.insert(word);
      if (boys.count(word) > 0) of_boys.insert(word);
    }
    REQUIRE(of_girls.size() <= 1);
    REQUIRE(of_boys.size() <= 1);
    const std::size_t second = story.text.find('.') + 2;
    if (story.text.compare(second, 4, "She ") == 0 || story.text.compare(second, 3, "He ") == 0) {
      REQUIRE((story.text[second] == 'S') == hero_is_girl);
      ++checked;
    }
  }
  CHECK(checked > 5'000);
}

TEST_CASE("a and an are right") {
  for (const Story& story : corpus()) {
    for (const std::string& text : {story.text, story.summary}) {
      CAPTURE(text);
      const auto words = words_of(text);
      for (std::size_t i = 0; i + 1 < words.size(); ++i) {
        const std::string& article = words[i].first;
        const std::string& next = words[i + 1].first;
        if (article == "a" || article == "A")
          REQUIRE(std::string_view("aeiouAEIOU").find(next[0]) == std::string_view::npos);
        if (article == "an" || article == "An")
          REQUIRE(std::string_view("aeio").find(next[0]) != std::string_view::npos);
      }
    }
  }
}

TEST_CASE("words, features and summary say what is so") {
  std::set<std::string> features;
  for (const Story& story : corpus()) {
    CAPTURE(story.text);
    REQUIRE(story.words.size() == 3);
    const auto occurs = [words = words_of(story.text)](std::string_view wanted) {
      return std::any_of(words.begin(), words.end(), [&](const auto& word) {
        std::string lower = word.first;
        lower.front() = static_cast<char>(std::tolower(static_cast<unsigned char>(lower.front())));
        return lower == wanted;
      });
    };
    const auto verb = std::find_if(story_grammar::internal::verbs.begin(), story_grammar::internal::verbs.end(),
                                   [&](const auto& entry) { return entry.base == story.words[0]; });
    REQUIRE(verb != story_grammar::internal::verbs.end());
    REQUIRE((occurs(verb->base) || occurs(verb->past)));
    REQUIRE(occurs(story.words[1]));
    REQUIRE(occurs(story.words[2]));
    REQUIRE(std::set<std::string>(story.words.begin(), story.words.end()).size() == 3);
    const bool dialogue = std::find(story.features.begin(), story.features.end(), "Dialogue") != story.features.end();
    REQUIRE(dialogue == (story.text.find('"') != std::string::npos));
    features.insert(story.features.begin(), story.features.end());
    REQUIRE(story.summary.size() > 20);
    REQUIRE(story.summary.back() == '.');
    REQUIRE(story.summary.find_first_of("[]{}<>|~#()") == std::string::npos);
    const std::string prompt = story_grammar::instruction_prompt(story.words, story.features);
    for (const std::string& word : story.words) REQUIRE(prompt.find('"' + word + '"') != std::string::npos);
  }
  CHECK(features == std::set<std::string>{"Conflict", "Dialogue", "MoralValue", "Twist"});
}

TEST_CASE("a seed gives the same stories, another seed others") {
  story_grammar::StoryStream again(1);
  story_grammar::StoryStream other(2);
  std::size_t same = 0;
  for (std::size_t i = 0; i < 200; ++i) {
    REQUIRE(again.next().text == corpus()[i].text);
    if (other.next().text == corpus()[i].text) ++same;
  }
  CHECK(same == 0);
}

TEST_CASE("the random numbers are those of SplitMix64's definition on every platform") {
  story_grammar::Random random(1, 2, 3);
  std::vector<std::size_t> numbers;
  for (int i = 0; i < 4; ++i) numbers.push_back(random.below(1000));
  CHECK(numbers == std::vector<std::size_t>{904, 404, 352, 513});
}

TEST_CASE("templates: choices, keys, slots, rules and mistakes") {
  const std::string_view greeting = "[hello|hello] {who}";
  const std::vector<std::string_view> one = {"bird"};
  const auto expander = [&] {
    return story_grammar::Expander(
        story_grammar::Random(1, 0, 0), [&](std::string_view name) { return name == "greeting" ? &greeting : nullptr; },
        [&](std::string_view name) { return name == "animal" ? &one : nullptr; }, false);
  };
  auto filled = expander();
  filled.set("who", "Ann");
  CHECK(filled.expand("<greeting>, <x=a {animal}>{x}{+Twist}") == "hello Ann, a bird");
  CHECK(filled.features() == std::vector<std::string>{"Twist"});
  for (int i = 0; i < 20; ++i) {
    auto keyed = expander();
    const std::string text = keyed.expand("[#k a|b|c][#k 1|2|3]");
    CHECK((text == "a1" || text == "b2" || text == "c3"));
  }
  for (const std::string_view wrong :
       {"{nobody}", "<nothing>", "[a|b", "a]", "[#k a|b][#k a|b|c]", "[{who]}", "[#k]"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(expander().expand(wrong), story_grammar::GrammarError);
  }
}

TEST_CASE("shards have the form of TinyStories_all_data, all stories in order, complete or absent") {
  const TemporaryFolder folder;
  const story_grammar::ShardOptions options{.output_dir = folder.path / "shards", .count = 25, .shard_size = 10};
  CHECK(story_grammar::write_shards(options) == 3);
  std::size_t index = 0;
  for (const std::string_view name : {"data00.json", "data01.json", "data02.json"}) {
    const boost::json::value shard = boost::json::parse(read(options.output_dir / name));
    for (const boost::json::value& value : shard.as_array()) {
      const boost::json::object& record = value.as_object();
      const Story& story = corpus().at(index++);
      std::vector<std::string> keys;
      for (const auto& item : record) keys.emplace_back(item.key());
      CHECK(keys == std::vector<std::string>{"story", "instruction", "summary", "source"});
      CHECK(record.at("story").as_string() == story.text);
      CHECK(record.at("summary").as_string() == story.summary);
      const boost::json::object& instruction = record.at("instruction").as_object();
      CHECK(instruction.at("prompt:").is_string());
      CHECK(instruction.at("words").as_array().size() == 3);
      CHECK(instruction.at("features").as_array().size() == story.features.size());
    }
  }
  CHECK(index == 25);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);  // nothing temporary is left

  const std::string first = read(options.output_dir / "data00.json");
  CHECK_THROWS_AS(story_grammar::write_shards(options), storylm::ArgumentError);
  auto again = options;
  again.overwrite = true;
  again.count = 10;
  CHECK(story_grammar::write_shards(again) == 1);
  CHECK(read(options.output_dir / "data00.json") == first);
  CHECK_FALSE(std::filesystem::exists(options.output_dir / "data01.json"));

  std::ofstream(options.output_dir / "notes.txt") << "mine";
  CHECK_THROWS_AS(story_grammar::write_shards(again), storylm::ArgumentError);
  CHECK(std::filesystem::exists(options.output_dir / "notes.txt"));
  auto nowhere = options;
  nowhere.output_dir.clear();
  CHECK_THROWS_AS(story_grammar::write_shards(nowhere), storylm::ArgumentError);
  auto impossible = options;
  impossible.output_dir = folder.path / "shards" / "notes.txt" / "below";
  CHECK_THROWS_AS(story_grammar::write_shards(impossible), storylm::Error);
}
