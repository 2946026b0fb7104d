// SPDX-License-Identifier: MIT
/// @file
/// @brief Makes the demo corpus: children's stories from a seeded grammar, as shards like those of TinyStories.
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include "program.hpp"
#include "story_grammar/shards.hpp"

int main(int argc, char** argv) {
  story_grammar::ShardOptions options;
  std::string output_dir;
  CLI::App app(
      "Makes children's stories from a seeded grammar and writes them as shards data00.json, data01.json, ... "
      "in the form of TinyStories_all_data.",
      "make_stories");
  app.add_option("--output-dir", output_dir, "Folder of shards to make; it appears complete or not at all")->required();
  app.add_option("--count", options.count, "Stories to make, no two alike")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{10'000'000}))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Seed: the same one gives the same stories on every machine")
      ->capture_default_str();
  app.add_option("--shard-size", options.shard_size, "Stories in one shard")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{10'000'000}))
      ->capture_default_str();
  app.add_flag("--overwrite", options.overwrite, "Replace a folder that holds shards and nothing else");
  return program::run(app, argc, argv, [&] {
    options.output_dir = output_dir;
    const std::size_t shards = story_grammar::write_shards(options);
    std::cerr << "make_stories: " << options.count << " stories in " << shards << (shards == 1 ? " shard" : " shards")
              << " in " << output_dir << '\n';
    return 0;
  });
}
