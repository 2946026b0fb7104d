// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief JSON shards: the same stories in blocks of any size, and those that Boost.JSON finds in the whole.
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "story_checks.hpp"

namespace storylm::fuzz {

void run(std::string_view input) {
  const ReadStories ours = check_stories(folder().write("x.json", input));
  if (!ours.error.empty() || input.find('\\') != input.npos || input.starts_with("\xEF\xBB\xBF")) return;
  boost::json::parse_options options;
  options.allow_invalid_utf8 = true;
  options.max_depth = 64;
  boost::json::error_code error;
  const boost::json::value theirs = boost::json::parse({input.data(), input.size()}, error, {}, options);
  must(!error && theirs.is_array(), "stories from what is no JSON array", error.message());
  must(theirs.get_array().size() == ours.stories.size(), "another number of stories");
  for (std::size_t i = 0; i < ours.stories.size(); ++i) {
    const auto* story = theirs.get_array()[i].get_object().if_contains("story");
    must(story != nullptr && story->get_string() == boost::json::string_view(ours.stories[i]), "another story",
         ours.stories[i]);
  }
}

void seeds(Seeds& made) {
  made.add("[]");
  made.add(
      R"([{"story": "Once upon a time.", "source": "x"}, {"story": "Two\nlines \"quoted\" \u00e4 \ud83d\ude00"}])");
  made.add("\xEF\xBB\xBF [ {\"summary\": {\"story\": [1, -2.5e3, null, true]}, \"story\": \"a\"} ] \n");
  made.add(R"([{"story": 1}, {"story": "a", "story": "b"}, {}, 3, [[]], "x", {"story": "\ud800"}])");
  made.add(R"([{"story": "cut)");
  made.add(
      R"([{"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]], "story": "deep"}] 1)");
  json_words(made);
  made.words({"{\"story\":\"", "\"story\"", "},{", "\\\\", "\\\"", "<|im_start|>", "<|endoftext|>", "\xC3\xA4",
              "\xE2\x80\x99", "\xEF\xBF\xBD", "\xE2\x80\x8B"});
}

}  // namespace storylm::fuzz
