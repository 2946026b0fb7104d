// SPDX-License-Identifier: MIT
// Makes the model of scripts/demo.sh and looks at 100 of its stories.
// LINK: io sentencepiece
// LABELS: slow
// PROGRAMS: make_stories prepare_stories train_stories generate_stories
// TIMEOUT: 900
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/generate/generator.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/text/sentencepiece.hpp>

#include "../examples/story_grammar.hpp"
#include "../examples/story_text.hpp"
#include "io_support.hpp"
#include "process_support.hpp"
#include "story_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr std::size_t wanted_stories = 100;
constexpr std::string_view prompt = "Once upon a time ";

/// Standard output of a line of shell that knows demo_model.sh. Standard error is the test's.
std::string demo(const std::string& command) {
  const TemporaryFolder folder;
  Process process({"/bin/bash", "-c", "source '" STORYLM_TEST_DIR "/../scripts/demo_model.sh'; " + command},
                  folder / "out");
  const int code = process.wait();
  CAPTURE(command);
  REQUIRE(code == 0);
  return read_bytes(folder / "out");
}

/// The demo's flags of generate_stories.
SamplerOptions sampler_options() {
  SamplerOptions options;
  std::istringstream flags(demo("echo \"${sampling[@]}\""));
  for (std::string flag; flags >> flag;) {
    CAPTURE(flag);
    if (flag == "--gen-topk") {
      flags >> options.top_k;
    } else if (flag == "--gen-temperature") {
      flags >> options.temperature;
    } else {
      FAIL("a flag that this test does not know");
    }
    REQUIRE(!flags.fail());
  }
  return options;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

struct Told {
  std::string text;
  bool ended = false;
};

/// What generate_stories does, with what it does not print: whether the model ended the story.
std::vector<Told> tell(const std::filesystem::path& run, const program::StoryText<SentencePieceTokenizer>& text,
                       const SentencePieceTokenizer& tokenizer) {
  std::vector<GenerateRequest> requests;
  for (std::size_t i = 0; i < wanted_stories; ++i)
    requests.push_back({.prompt = text.prompt_ids(), .story = static_cast<std::uint32_t>(i)});
  const GenerateOptions options{.sampler = sampler_options(),
                                .eos = tokenizer.eos(),
                                .banned = {tokenizer.unk(), tokenizer.bos(), tokenizer.pad()}};
  const io::ModelFile file(run / "checkpoint_best.safetensors");
  const Cpu device;
  std::vector<Told> stories;
  nn::with_stack_type<float, Cpu>(file.config(), [&]<class Stack>(std::type_identity<Stack>) {
    Stack stack(file.config(), device, file.options(), nn::Gradients::no);
    file.load_into(stack);
    Generator<Stack> generator(stack, 32);
    for (const GeneratedStory& story : generator.generate(requests, options))
      stories.push_back({text.line(story.ids), story.ended});
  });
  return stories;
}

/// True when the story has a cast by the end of its third sentence, and no name comes later.
bool has_one_cast(const std::string& story) {
  static const std::unordered_set<std::string> names = [] {
    std::unordered_set<std::string> all;
    for (const std::string_view name : story_grammar::character_names()) all.emplace(name);
    return all;
  }();
  const std::size_t introduced = end_of_third_sentence(story);
  std::unordered_set<std::string> cast;
  for (const auto& [word, at] : words_of(story)) {
    if (!names.contains(word)) continue;
    if (at < introduced) cast.insert(word);
    if (!cast.contains(word)) return false;
  }
  return !cast.empty();
}

}  // namespace

TEST_CASE("a story has one cast when no name comes after its third sentence") {
  CHECK(has_one_cast("Once Lily was sad. She had a dog. Her friend was Ben. Lily and Ben were glad."));
  CHECK_FALSE(has_one_cast("Once Lily was sad. She had a dog. She was glad. Her friend was Ben."));
  CHECK_FALSE(has_one_cast("Once there was a cat. It was sad. It had a dog. Lily was glad."));
  CHECK_FALSE(has_one_cast("There was a cat."));
}

TEST_CASE("of 100 stories 90 end, 80 keep to their cast, and none is the corpus's") {
  const std::filesystem::path bin = STORYLM_BIN_DIR;
  const std::filesystem::path folder = bin.parent_path() / "demo_test";
  const std::string where = "'" + folder.string() + "' '" + bin.string() + "'";
  std::filesystem::remove_all(folder);  // what an older build made
  demo("make_model " + where);

  const auto tokenizer = SentencePieceTokenizer::load(folder / "run/bpe.model");
  const program::StoryText text(tokenizer, std::string(prompt));
  const std::vector<Told> stories = tell(folder / "run", text, tokenizer);
  REQUIRE(stories.size() == wanted_stories);
  const auto printed = lines_of(demo("tell_stories " + where + " " + std::to_string(wanted_stories)));
  REQUIRE(printed.size() == wanted_stories);

  const auto lines = lines_of(read_bytes(folder / "data/stories.txt"));
  const std::unordered_set<std::string> corpus(lines.begin(), lines.end());
  REQUIRE(corpus.size() > 10'000);
  // A story of the corpus would be found: through the tokenizer it comes back as the line it was.
  std::size_t controls = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    if (!lines[i].starts_with(prompt)) continue;
    CHECK(corpus.contains(text.line(tokenizer.encode(lines[i]))));
    ++controls;
  }
  CHECK(controls > 100);

  std::size_t ended = 0;
  std::size_t one_cast = 0;
  std::size_t copied = 0;
  for (std::size_t i = 0; i < stories.size(); ++i) {
    CHECK(stories[i].text == printed[i]);
    ended += stories[i].ended ? 1 : 0;
    one_cast += has_one_cast(stories[i].text) ? 1 : 0;
    copied += corpus.contains(stories[i].text) ? 1 : 0;
  }
  MESSAGE("of ", stories.size(), " stories ", ended, " end, ", one_cast, " keep to their cast, ", copied,
          " stand in the corpus; the first three:\n", stories[0].text, "\n", stories[1].text, "\n", stories[2].text);
  CHECK(ended >= 90);
  CHECK(one_cast >= 80);
  CHECK(copied == 0);
}
