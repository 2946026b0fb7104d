// SPDX-License-Identifier: MIT
/// @file
/// @brief Makes the demo corpus: children's stories from a seeded grammar, as shards like those of TinyStories.
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include <storylm/core/error.hpp>

#include "story_grammar/shards.hpp"

int main(int argc, char** argv) {
  story_grammar::ShardOptions options;
  std::string output_dir;
  CLI::App app(
      "Makes children's stories from a seeded grammar and writes them as shards data00.json, data01.json, ... "
      "in the form of TinyStories_all_data.");
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::cerr << "make_stories: " << error.what() << '\n';
    return 2;
  }
  try {
    options.output_dir = output_dir;
    const std::size_t shards = story_grammar::write_shards(options);
    std::cerr << "make_stories: " << options.count << " stories in " << shards << (shards == 1 ? " shard" : " shards")
              << " in " << output_dir << '\n';
    return 0;
  } catch (const storylm::ArgumentError& error) {
    std::cerr << "make_stories: " << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "make_stories: " << error.what() << '\n';
    return 1;
  }
}
