// SPDX-License-Identifier: MIT
/// @file
/// @brief Stories from files of any form, and what a judge is given of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <storylm/core/error.hpp>
#include <storylm/data/stories.hpp>
#include <storylm/evaluate/judge.hpp>
#include <storylm/text/tokenizer.hpp>

namespace program {

/// `text` without whitespace at either end.
inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view whitespace = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(whitespace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(whitespace) + 1 - begin);
}

/// Calls f(std::string_view) for every story of a file, trimmed. A .json file is a shard; any other is text: stories
/// are separated by <|endoftext|> and may be empty, or, where that does not occur, one per line and blank lines none.
/// @throws storylm::IoError when it cannot be read, FormatError when a shard is damaged, ArgumentError for a folder
template <class F>
void for_each_story(const std::filesystem::path& path, F&& f) {
  storylm::expects<storylm::ArgumentError>(!std::filesystem::is_directory(path), "stories", path,
                                           " is a folder, expected a file");
  if (path.extension() == ".json") {
    storylm::StoryReader reader({path});
    for (std::string story; reader.next(story);) f(trimmed(story));
    return;
  }
  storylm::detail::TextCutter cutter(path);
  storylm::StoryBlock block;
  do {
    cutter.next(block);
    for (std::size_t i = 0; i < block.stories.size(); ++i) f(trimmed(block[i]));
  } while (!block.last);
}

/// The tokens of a story and the bytes of what is predicted: all of `text`, as it is, or, without BOS, what is left of
/// it behind the first token.
template <storylm::Tokenizer T>
storylm::evaluate::JudgeStory judge_story(const T& tokenizer, std::string_view text, bool bos) {
  storylm::evaluate::JudgeStory story{.ids = tokenizer.encode(text),
                                      .bytes = static_cast<storylm::index_t>(text.size())};
  if (!bos && !story.ids.empty()) {
    const std::string first = tokenizer.decode(std::span(story.ids).first(1));
    story.bytes -= std::min(story.bytes, static_cast<storylm::index_t>(first.size()));
  }
  return story;
}

}  // namespace program
