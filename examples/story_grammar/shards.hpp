// SPDX-License-Identifier: MIT
/// @file
/// @brief Writes stories as shards in the form of TinyStories_all_data: data00.json, data01.json, ...
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <boost/json.hpp>

#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>

#include "../story_grammar.hpp"

namespace story_grammar {

/// @brief What to write and where.
struct ShardOptions {
  std::filesystem::path output_dir;  ///< the folder of shards; it appears complete or not at all
  std::size_t count = 24'000;        ///< stories, all different
  std::uint64_t seed = 1;            ///< the same seed and count give the same bytes on every platform
  std::size_t shard_size = 100'000;  ///< stories in one file
  bool overwrite = false;            ///< replace a folder that holds shards and nothing else
};

/// @brief The record of one story, with the keys of TinyStories_all_data ("prompt:" has its colon there too).
inline boost::json::object record_of(const Story& story) {
  boost::json::array words(story.words.begin(), story.words.end());
  boost::json::array features(story.features.begin(), story.features.end());
  boost::json::object instruction;
  instruction["prompt:"] = instruction_prompt(story.words, story.features);
  instruction["words"] = std::move(words);
  instruction["features"] = std::move(features);
  boost::json::object record;
  record["story"] = story.text;
  record["instruction"] = std::move(instruction);
  record["summary"] = story.summary;
  record["source"] = "storylm story grammar";
  return record;
}

/// @brief The name of shard `index`: at least two digits.
inline std::string shard_name(std::size_t index) {
  return "data" + std::string(index < 10 ? "0" : "") + std::to_string(index) + ".json";
}

/// @brief Throws unless write_shards may make its folder: it is absent or empty, or holds only shards to overwrite.
/// @throws storylm::ArgumentError
inline void check_output_dir(const ShardOptions& options) {
  namespace fs = std::filesystem;
  constexpr std::string_view op = "write_shards";
  storylm::expects<storylm::ArgumentError>(!options.output_dir.empty(), op, "the output folder has no name");
  std::error_code error;
  const fs::file_status status = fs::status(options.output_dir, error);
  if (status.type() == fs::file_type::not_found) return;
  storylm::expects<storylm::ArgumentError>(fs::is_directory(status), op, options.output_dir, " is not a folder");
  fs::directory_iterator entries(options.output_dir, error);
  storylm::expects<storylm::ArgumentError>(!error, op, "cannot read ", options.output_dir, ": ", error.message());
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    const bool shard = name.rfind("data", 0) == 0 && entry.path().extension() == ".json" && entry.is_regular_file();
    storylm::expects<storylm::ArgumentError>(shard && options.overwrite, op, options.output_dir, " already holds ",
                                             name, shard ? "; --overwrite replaces it" : ", which is no shard");
  }
}

/// @brief Makes the stories and writes them into a new folder; returns the number of shards.
/// @throws storylm::ArgumentError where check_output_dir does, storylm::WriteError when the folder cannot be written,
/// std::runtime_error when the grammar has no `count` different stories
inline std::size_t write_shards(const ShardOptions& options) {
  namespace fs = std::filesystem;
  constexpr std::string_view op = "write_shards";
  storylm::expects<storylm::ArgumentError>(options.count > 0 && options.shard_size > 0, op,
                                           "count and shard size must be positive: ", options.count, " and ",
                                           options.shard_size);
  check_output_dir(options);
  fs::path target = fs::absolute(options.output_dir).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "shards/" is "shards"
  const fs::path partial = target.parent_path() / ("." + target.filename().string() + ".partial");
  std::error_code error;
  const auto expect_done = [&](std::string_view what) {
    storylm::expects<storylm::WriteError>(!error, op, "cannot ", what, " ", options.output_dir, ": ", error.message());
  };
  fs::remove_all(partial, error);
  fs::create_directories(partial, error);
  expect_done("make");

  // Removes what was written unless all of it was.
  struct Cleanup {
    const fs::path& folder;
    ~Cleanup() {
      std::error_code ignored;
      fs::remove_all(folder, ignored);
    }
  } cleanup{partial};

  StoryStream stories(options.seed);
  std::size_t shards = 0;
  for (std::size_t done = 0; done < options.count; ++shards) {
    const fs::path path = partial / shard_name(shards);
    std::ofstream file(path, std::ios::binary);
    file << '[';
    const std::size_t end = done + std::min(options.shard_size, options.count - done);
    for (std::size_t begin = done; done < end; ++done) {
      file << (done > begin ? ",\n" : "") << boost::json::serialize(record_of(stories.next()));
    }
    file << "]\n";
    file.close();
    storylm::expects<storylm::WriteError>(file.good(), op, "cannot write ", path);
  }
  if (options.overwrite) fs::remove_all(target, error);
  fs::rename(partial, target, error);  // over an absent or an empty folder
  expect_done("write");
  return shards;
}

}  // namespace story_grammar
