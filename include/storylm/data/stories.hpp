// SPDX-License-Identifier: MIT
/// @file
/// @brief Reads raw stories one by one from JSON shards and text files, in little memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/data/stories_blocks.hpp>
#include <storylm/data/stories_json.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm {

/// What a StoryReader does about errors.
struct StoryReaderOptions {
  bool keep_going = false;  ///< skip records without a story, and what follows a syntax error in a shard; count both
  std::size_t block_bytes = detail::block_bytes;  ///< of a file read at once; results do not depend on it
};

/// What a StoryReader had to leave out.
struct ReaderCounts {
  index_t read = 0;              ///< stories given out
  index_t without_story = 0;     ///< records without one string "story"
  index_t damaged_shards = 0;    ///< shards with a syntax error
  std::uint64_t lost_bytes = 0;  ///< from the syntax errors to the ends of their shards
};

namespace detail {

/// Something left out of a block.
struct StoryProblem {
  std::uint64_t at = 0;         ///< byte of the file where it is wrong
  std::uint64_t record_at = 0;  ///< where the record begins
  std::string reason;
  bool fatal = false;  ///< nothing can be read behind it
};

/// Goes through the stories of a block. One for each thread.
class BlockStories {
 public:
  enum class Next { story, problem, end };

  /// What comes next in `block` from its story `i` on: a story, valid until the next call, or a problem.
  [[nodiscard]] Next next(const StoryBlock& block, std::size_t& i, std::string_view& story, StoryProblem& problem) {
    if (i < block.stories.size()) {
      const std::uint64_t record_at = block.at + block.stories[i].begin;
      const std::string_view text = block[i++];
      if (!block.json) return story = text, Next::story;
      StoryParser::Outcome outcome = parser_.parse(text, story);
      if (outcome.kind == StoryParser::Kind::story) return Next::story;
      problem = {record_at + outcome.at, record_at, std::move(outcome.reason),
                 outcome.kind == StoryParser::Kind::syntax_error};
      return Next::problem;
    }
    if (i++ > block.stories.size() || block.error.empty()) return Next::end;
    problem = {block.error_at, block.error_at, block.error, true};
    return Next::problem;
  }

 private:
  StoryParser parser_;
};

}  // namespace detail

/// Goes through files and folders of stories. A folder stands for its .json files in the order of their names; a .json
/// file is an array of objects whose string "story" counts (other keys are ignored); a .txt file holds stories
/// separated by <|endoftext|>, or, without that, one per line. Stories come out raw: see clean_story(). In memory is
/// one block. Several threads read and clean with clean_stories() (data/stories_parallel.hpp).
class StoryReader {
 public:
  /// @throws IoError when an input does not exist, ArgumentError when it is neither .json nor .txt or a folder has no
  /// .json
  explicit StoryReader(const std::vector<std::filesystem::path>& inputs, const StoryReaderOptions& options = {})
      : options_(options) {
    for (const std::filesystem::path& input : inputs) add(input);
    expects<ArgumentError>(!files_.empty(), op, "there is no input");
    constexpr std::size_t most = std::size_t{1} << 30U;  // places in a block are 32-bit numbers
    expects<ArgumentError>(options.block_bytes > 0 && options.block_bytes <= most, op, "block_bytes must be in [1, ",
                           most, "]: ", options.block_bytes);
  }

  /// The next story; false at the end of the last file.
  /// @throws FormatError with file, byte offset and reason: a record without a string "story" or, in JSON, a syntax
  /// error; with keep_going they are counted and reported instead
  [[nodiscard]] bool next(std::string& story) {
    std::string_view found;
    detail::StoryProblem problem;
    while (true) {
      switch (block_stories_.next(block_, at_, found, problem)) {
        case detail::BlockStories::Next::story:
          ++counts_.read;
          story.assign(found);
          return true;
        case detail::BlockStories::Next::problem:
          report(block_.file, problem);
          if (!problem.fatal) break;
          cutter_.emplace<std::monostate>();
          block_.stories.clear();
          block_.error.clear();
          break;
        default:
          finish(block_);
          if (!next_block(block_)) return false;
          at_ = 0;
      }
    }
  }

  /// The next block, whose stories are for the caller to parse and to account for: what clean_stories() is made of.
  /// False at the end of the last file. @throws what next() throws, but for what is wrong in a story
  [[nodiscard]] bool next_block(StoryBlock& block) {
    if (std::holds_alternative<std::monostate>(cutter_) && !open_next()) return false;
    if (auto* text = std::get_if<detail::TextCutter>(&cutter_)) {
      text->next(block);
    } else {
      std::get<detail::JsonCutter>(cutter_).next(block);
    }
    block.file = opened_ - 1;
    if (block.last) cutter_.emplace<std::monostate>();
    return true;
  }

  /// Takes into account what came out of a block of next_block(), block by block in their order.
  /// @throws FormatError for the first problem, unless keep_going is set
  void account(const StoryBlock& block, index_t read, const std::vector<detail::StoryProblem>& problems) {
    counts_.read += read;
    for (const detail::StoryProblem& problem : problems) report(block.file, problem);
    finish(block);
  }
  /// True when a syntax error has been accounted for in `file`: further blocks of it do not count.
  [[nodiscard]] bool damaged(std::size_t file) const noexcept { return file == damaged_; }

  /// What was read and left out so far.
  [[nodiscard]] const ReaderCounts& counts() const noexcept { return counts_; }
  /// One line for each thing left out, with file and byte offset; the first hundred.
  [[nodiscard]] const std::vector<std::string>& reports() const noexcept { return reports_; }
  /// What it was made with.
  [[nodiscard]] const StoryReaderOptions& options() const noexcept { return options_; }
  /// Number of files in all inputs.
  [[nodiscard]] std::size_t files() const noexcept { return files_.size(); }
  /// Their size together.
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }
  /// How far reading has come in total_bytes(), in whole blocks.
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return bytes_read_; }

 private:
  static constexpr std::string_view op = "StoryReader";
  static constexpr std::size_t max_reports = 100;

  struct File {
    std::filesystem::path path;
    std::uint64_t bytes;
    std::uint64_t before;  // bytes of the files before it
  };

  void add(const std::filesystem::path& input) {
    std::error_code error;
    const auto status = std::filesystem::status(input, error);
    expects<IoError>(std::filesystem::exists(status), op, input, ": ",
                     error ? error.message() : std::string("no such file or folder"));
    if (!std::filesystem::is_directory(status)) {
      const std::string extension = input.extension().string();
      expects<ArgumentError>(extension == ".json" || extension == ".txt", op, input,
                             " is neither a folder nor a .json or .txt file");
      add_file(input);
      return;
    }
    std::filesystem::directory_iterator folder(input, error);
    expects<IoError>(!error, op, "cannot read the folder ", input, ": ", error.message());
    std::vector<std::filesystem::path> shards;
    for (const std::filesystem::directory_entry& entry : folder) {
      // The settings of a tokenizer may lie in the same folder.
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() == ".json" && !name.ends_with(".settings.json")) shards.push_back(entry.path());
    }
    expects<ArgumentError>(!shards.empty(), op, "the folder ", input, " has no .json files");
    std::sort(shards.begin(), shards.end());
    for (const std::filesystem::path& shard : shards) add_file(shard);
  }

  void add_file(const std::filesystem::path& path) {
    const detail::InputFile file(path, op);  // says at once what cannot be opened
    files_.push_back({path, file.size(), total_bytes_});
    total_bytes_ += file.size();
  }

  [[nodiscard]] bool open_next() {
    if (opened_ == files_.size()) return false;
    const std::filesystem::path& path = files_[opened_].path;
    if (path.extension() == ".json") {
      cutter_.emplace<detail::JsonCutter>(path, options_.block_bytes);
    } else {
      cutter_.emplace<detail::TextCutter>(path, options_.block_bytes);
    }
    ++opened_;
    return true;
  }

  void report(std::size_t file, const detail::StoryProblem& problem) {
    std::ostringstream report;
    report << files_[file].path << " at byte " << problem.at << ": " << problem.reason;
    expects<FormatError>(options_.keep_going, op, report.str());
    if (problem.fatal) {
      const std::uint64_t lost = files_[file].bytes - std::min(files_[file].bytes, problem.record_at);
      report << "; the rest of the shard is lost: " << lost << " bytes";
      ++counts_.damaged_shards;
      counts_.lost_bytes += lost;
      damaged_ = file;
    } else {
      ++counts_.without_story;
    }
    note(report.str());
  }

  /// The stories of `block` have been dealt with.
  void finish(const StoryBlock& block) {
    const File& file = files_[block.file];
    const bool all = block.last || damaged(block.file);
    bytes_read_ = std::max(bytes_read_, file.before + (all ? file.bytes : block.at + block.text.size()));
  }

  void note(std::string report) {
    if (reports_.size() < max_reports) reports_.push_back(std::move(report));
  }

  StoryReaderOptions options_;
  std::vector<File> files_;
  std::size_t opened_ = 0;  // files opened so far
  std::variant<std::monostate, detail::JsonCutter, detail::TextCutter> cutter_;
  StoryBlock block_;  // of next()
  std::size_t at_ = 0;
  detail::BlockStories block_stories_;
  ReaderCounts counts_;
  std::vector<std::string> reports_;
  std::size_t damaged_ = static_cast<std::size_t>(-1);  // the file with the last syntax error
  std::uint64_t total_bytes_ = 0;
  std::uint64_t bytes_read_ = 0;
};

}  // namespace storylm
