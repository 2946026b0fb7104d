// SPDX-License-Identifier: MIT
/// @file
/// @brief What a StoryReader must give, whatever it reads.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/data/cleaning.hpp>
#include <storylm/data/stories.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

/// What comes out of a file.
struct ReadStories {
  std::vector<std::string> stories;
  std::string error;
  ReaderCounts counts;
};

inline ReadStories read_stories(const std::filesystem::path& path, const StoryReaderOptions& options) {
  ReadStories all;
  all.error = refusal(
      [&] {
        StoryReader reader({path}, options);
        for (std::string story; reader.next(story);) all.stories.push_back(story);
        all.counts = reader.counts();
        must(reader.bytes_read() == reader.total_bytes(), "bytes were left out", path.string());
        must(static_cast<std::size_t>(reader.counts().read) == all.stories.size(), "the count of stories");
        for (const std::string& report : reader.reports()) must(report.size() < 2000, "a report without end", report);
      },
      path.string());
  return all;
}

/// How much of the file is read at once must not matter; what is cleaned is UTF-8 and one line.
inline ReadStories check_stories(const std::filesystem::path& path) {
  constexpr std::size_t large =
      1U << 13U;  // more than an input has; the reader's own 512 KB take long to fill with zeros
  const ReadStories whole = read_stories(path, {.block_bytes = large});
  const ReadStories lenient = read_stories(path, {.keep_going = true, .block_bytes = large});
  must(lenient.error.empty(), "an error although keep_going is set", lenient.error);
  must(lenient.stories.size() >= whole.stories.size(), "keep_going gives less");
  for (const std::size_t block :
       {std::size_t{1}, 2 + static_cast<std::size_t>(std::filesystem::file_size(path)) % 61}) {
    const ReadStories pieces = read_stories(path, {.block_bytes = block});
    must(pieces.stories == whole.stories, "other stories in blocks of another size", std::to_string(block));
    must(pieces.error == whole.error, "another error in blocks of another size", pieces.error + " / " + whole.error);
    const ReadStories kept = read_stories(path, {.keep_going = true, .block_bytes = block});
    must(kept.stories == lenient.stories, "other stories kept in blocks of another size", std::to_string(block));
    must(kept.counts.lost_bytes == lenient.counts.lost_bytes &&
             kept.counts.without_story == lenient.counts.without_story,
         "other counts in blocks of another size", std::to_string(block));
  }
  CleaningCounts counts;
  for (const std::string& story : lenient.stories) {
    std::string clean;
    if (!clean_story(story, clean, counts)) continue;
    for (std::size_t at = 0; at < clean.size();) {
      const detail::Utf8 character = detail::decode_utf8(clean, at);
      must(character.bytes != 0, "a clean story that is not UTF-8", clean);
      must(character.code_point >= 0x20, "a clean story of several lines", clean);
      at += character.bytes;
    }
  }
  return whole;
}

}  // namespace storylm::fuzz
