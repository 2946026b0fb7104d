// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Text files of stories, by separators or by lines: nothing but line ends and blank lines is lost.
#include <algorithm>
#include <string>
#include <string_view>

#include "story_checks.hpp"

namespace storylm::fuzz {

void run(std::string_view input) {
  const ReadStories read = check_stories(folder().write("x.txt", input));
  must(read.error.empty(), "an error in text of which nothing can be wrong", read.error);
  const auto blank = [](char c) { return std::string_view(" \t\r\n\v\f").find(c) != std::string_view::npos; };
  std::size_t kept = 0;
  for (const std::string& story : read.stories)
    kept += static_cast<std::size_t>(std::count_if(story.begin(), story.end(), [&](char c) { return !blank(c); }));
  std::size_t there =
      static_cast<std::size_t>(std::count_if(input.begin(), input.end(), [&](char c) { return !blank(c); }));
  constexpr std::string_view separator = "<|endoftext|>";
  for (std::size_t at = input.find(separator); at != input.npos; at = input.find(separator, at + separator.size()))
    there -= separator.size();
  must(kept == there, "characters are lost", std::to_string(kept) + " of " + std::to_string(there));
}

void seeds(Seeds& made) {
  made.add("");
  made.add("One story a line.\nTwo.\r\n\n  \nThree");
  made.add("First.\nOf two lines.\n<|endoftext|>\n<|endoftext|>\r\nSecond <|endoftex <|endoftext|>  \n");
  made.add("\xEF\xBB\xBF\xC3\xA2\xE2\x82\xAC\xE2\x84\xA2 <|im_start|>user\xFF\xFE \xEF\xBF\xBD\tx\x01\n");
  made.words({"<|endoftext|>", "<|endof", "\r\n", "\n\n", "<|im_end|>", "<|im_start|>", "\xE2\x80\x8B", "\xEF\xBF\xBD",
              "\xC3\xA2\xE2\x82\xAC\xE2\x84\xA2", "\xC3\xA2\xE2\x82\xAC\xC5\x93", "\xF0\x9F\x98\x80"});
}

}  // namespace storylm::fuzz
