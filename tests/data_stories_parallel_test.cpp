// SPDX-License-Identifier: MIT
// LINK: io
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/data/stories_parallel.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
using Strings = std::vector<std::string>;

namespace {

constexpr int thread_counts[] = {1, 2, 5};
constexpr index_t all = std::numeric_limits<index_t>::max();

/// Everything that comes out of reading, the error among it.
struct Outcome {
  Strings stories;
  CleaningCounts cleaned;
  index_t read = 0;
  index_t without_story = 0;
  index_t damaged_shards = 0;
  std::uint64_t lost_bytes = 0;
  Strings reports;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

void take_counts(const StoryReader& reader, Outcome& outcome) {
  outcome.read = reader.counts().read;
  outcome.without_story = reader.counts().without_story;
  outcome.damaged_shards = reader.counts().damaged_shards;
  outcome.lost_bytes = reader.counts().lost_bytes;
  outcome.reports = reader.reports();
}

/// Story by story, as one would write it without threads.
Outcome one_by_one(const std::filesystem::path& input, bool keep_going, index_t most = all) {
  Outcome outcome;
  StoryReader reader({input}, {.keep_going = keep_going});
  outcome.error = error_of<FormatError>([&] {
    std::string clean;
    for (std::string raw; outcome.cleaned.kept < most && reader.next(raw);) {
      if (clean_story(raw, clean, outcome.cleaned)) outcome.stories.push_back(clean);
    }
  });
  take_counts(reader, outcome);
  return outcome;
}

Outcome on_threads(const std::filesystem::path& input, bool keep_going, int threads, std::size_t block_bytes,
                   index_t most = all) {
  Outcome outcome;
  StoryReader reader({input}, {.keep_going = keep_going, .block_bytes = block_bytes});
  outcome.error = error_of<FormatError>([&] {
    clean_stories(reader, outcome.cleaned, {.threads = threads, .max_stories = most}, [&](const CleanStories& block) {
      std::string lines;
      for (std::size_t i = 0; i < block.size(); ++i) {
        outcome.stories.emplace_back(block[i]);
        lines += outcome.stories.back() + '\n';
      }
      CHECK(block.lines() == lines);
    });
  });
  take_counts(reader, outcome);
  if (outcome.error.empty() && most == all) CHECK(reader.bytes_read() == reader.total_bytes());
  return outcome;
}

/// A shard of stories whose lengths vary, with escapes and with what cleaning drops and repairs.
std::string shard(std::size_t first, std::size_t count, std::string_view between = ", ") {
  std::string json = "[";
  for (std::size_t i = first; i < first + count; ++i) {
    json += (i == first ? "" : std::string(between)) + "{\"words\": [\"a\\\\\", \"]}\\\"\"], \"story\": \"";
    if (i % 7 == 3)
      json += "\\n \\u200b";  // nothing
    else
      json += "\\n\\nStory " + std::to_string(i) + std::string(i * 37 % 211, 'x') + " \\\"said\\\" \\\\";
    json += "\", \"n\": [1, {\"story\": 2}]}";
  }
  return json + "]\n";
}

}  // namespace

TEST_CASE("stories, counts and reports do not depend on threads and blocks") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "in");
  write_bytes(folder / "in/a.json", shard(0, 90));
  write_bytes(folder / "in/b.json", "[]");  // empty shards are shards
  write_bytes(folder / "in/c.json", " [ ] ");
  write_bytes(folder / "in/d.json", shard(90, 1));
  write_bytes(folder / "in/e.json", shard(91, 60, " ,\n  "));
  const Outcome expected = one_by_one(folder / "in", false);
  CHECK(expected.stories.size() == 129);
  CHECK(expected.cleaned.dropped_empty == 22);
  CHECK(expected.read == 151);
  for (const int threads : thread_counts) {
    for (const std::size_t block_bytes : {1U, 7U, 100U, 1000U, 1U << 20U}) {
      CAPTURE(threads);
      CAPTURE(block_bytes);
      CHECK(on_threads(folder / "in", false, threads, block_bytes) == expected);
    }
    for (const index_t most : {index_t{1}, index_t{2}, index_t{78}, index_t{128}, index_t{129}, index_t{500}}) {
      CAPTURE(most);
      const Outcome first = one_by_one(folder / "in", false, most);
      CHECK(first.stories.size() == static_cast<std::size_t>(std::min<index_t>(most, 129)));
      CHECK(on_threads(folder / "in", false, threads, 1000, most) == first);
    }
  }
}

TEST_CASE("text too, by lines and by separators") {
  const TemporaryFolder folder;
  std::string lines;
  std::string separated;
  for (int i = 0; i < 200; ++i) {
    const std::string story = "Story " + std::to_string(i) + std::string(static_cast<std::size_t>(i * 31 % 97), 'y');
    lines += story + (i % 5 == 0 ? "\n\n" : i % 5 == 1 ? "\r\n" : "\n");
    separated += story + "\n\nmore <|endof<" + (i % 3 == 0 ? "\n<|endoftext|>\n" : "<|endoftext|>") +
                 (i % 11 == 0 ? "<|endoftext|>" : "");
  }
  write_bytes(folder / "lines.txt", lines + "the last");
  write_bytes(folder / "separated.txt", separated + "\n");
  for (const std::string_view name : {"lines.txt", "separated.txt"}) {
    const Outcome expected = one_by_one(folder / name, false);
    CHECK(expected.stories.size() == (name == "lines.txt" ? 201 : 200));
    for (const int threads : thread_counts) {
      for (const std::size_t block_bytes : {1U, 13U, 500U, 1U << 20U}) {
        CAPTURE(name);
        CAPTURE(threads);
        CAPTURE(block_bytes);
        CHECK(on_threads(folder / name, false, threads, block_bytes) == expected);
      }
    }
  }
}

TEST_CASE("the error is that of the first offending record in the order of the files") {
  const TemporaryFolder folder;
  const std::string good = shard(0, 40);
  const std::string rest = good.substr(1);
  struct Case {
    std::string first;
    std::string second;
    std::string expected;
  };
  for (const Case& c :
       {Case{"[" + std::string("{\"tale\": 1}, ") + rest, "[5]", "a.json\" at byte 1: the record has no"},
        Case{good.substr(0, good.size() - 2) + ", {\"story\": 7}]", "{", "\"story\" is a number, expected a string"},
        Case{good, "[" + std::string("{\"story\": \"x\"") + rest, "b.json\" at byte 14: not JSON"},
        Case{good.substr(0, 1500), "[{}]", "a.json\" at byte 1500: the file ends inside a record"},
        Case{good + "x", "[{}]", "there is more after the array"},
        Case{good, "{}", "b.json\" at byte 0: expected ["}}) {
    write_bytes(folder / "a.json", c.first);
    write_bytes(folder / "b.json", c.second);
    write_bytes(folder / "c.json", "[7]");
    for (const bool keep_going : {false, true}) {
      const Outcome expected = one_by_one(folder.path(), keep_going);
      CAPTURE(c.expected);
      CHECK(contains(keep_going ? expected.reports.at(0) : expected.error, c.expected));
      for (const int threads : thread_counts) {
        for (const std::size_t block_bytes : {1U, 64U, 1000U, 1U << 20U}) {
          CAPTURE(keep_going);
          CAPTURE(threads);
          CAPTURE(block_bytes);
          const Outcome outcome = on_threads(folder.path(), keep_going, threads, block_bytes);
          if (keep_going) {
            CHECK(outcome == expected);
          } else {  // what came out before belongs to nobody any more
            CHECK(outcome.error == expected.error);
          }
        }
      }
    }
  }
}

TEST_CASE("a problem behind the last story that was asked for is none") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.json", shard(0, 20).substr(0, 1700));
  for (const int threads : thread_counts) {
    const Outcome outcome = on_threads(folder / "a.json", false, threads, 300, 5);
    CHECK(outcome.error.empty());
    CHECK(outcome.stories.size() == 5);
  }
}

TEST_CASE("a file cut off anywhere is read as story by story, whatever the blocks") {
  const TemporaryFolder folder;
  const std::string whole =
      "\xEF\xBB\xBF [ {\"story\": \"One \\\"1\\\\\\\"\"}\n, {\"x\": {\"y\": [\"}\"]}, \"story\": \"2\"}] ";
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    write_bytes(folder / "a.json", std::string_view(whole).substr(0, length));
    const Outcome expected = one_by_one(folder / "a.json", true);
    for (std::size_t block_bytes = 1; block_bytes < 8; ++block_bytes) {
      CAPTURE(length);
      CAPTURE(block_bytes);
      CHECK(on_threads(folder / "a.json", true, 2, block_bytes) == expected);
    }
  }
}

TEST_CASE("what the sink throws comes out, and each clean story is finished once") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.json", shard(0, 200));
  for (const int threads : thread_counts) {
    StoryReader reader({folder / "a.json"}, {.block_bytes = 500});
    CleaningCounts counts;
    int blocks = 0;
    CHECK_THROWS_AS(clean_stories(reader, counts, {.threads = threads},
                                  [&](const CleanStories&) {
                                    if (++blocks == 3) throw std::out_of_range("enough");
                                  }),
                    std::out_of_range);
    CHECK(blocks == 3);

    StoryReader again({folder / "a.json"}, {.block_bytes = 500});
    CleaningCounts kept;
    Strings stories;
    CleanStoriesOptions options{.threads = threads};
    options.finish = [](std::string_view clean) { return "<" + std::string(clean.substr(0, 7)) + ">"; };
    clean_stories(again, kept, options, [&](const CleanStories& block) {
      for (std::size_t i = 0; i < block.size(); ++i) stories.emplace_back(block[i]);
    });
    CHECK(kept.kept == static_cast<index_t>(stories.size()));
    CHECK(stories.at(1) == "<Story 1>");
  }
}

TEST_CASE("a shard of any size is read in little memory: blocks hold no more than a few stories") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.json", shard(0, 3000));
  StoryReader reader({folder / "a.json"}, {.block_bytes = 1000});
  StoryBlock block;
  std::size_t stories = 0;
  std::size_t largest = 0;
  while (reader.next_block(block)) {
    stories += block.stories.size();
    largest = std::max(largest, block.text.capacity());
    CHECK(block.at + block.text.size() <= reader.total_bytes());
  }
  CHECK(stories == 3000);
  CHECK(largest < 4000);
}

TEST_CASE("a block has a size, and places in it fit 32 bits") {
  const TemporaryFolder folder;
  write_bytes(folder / "in.txt", "once");
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{5} << 30U}) {
    CHECK(contains(
        error_of<ArgumentError>([&] { static_cast<void>(StoryReader({folder / "in.txt"}, {.block_bytes = bytes})); }),
        "block_bytes must be in [1, 1073741824]: " + std::to_string(bytes)));
  }
}
