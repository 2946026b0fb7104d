// SPDX-License-Identifier: MIT
/// @file
/// @brief Reads raw stories one by one from JSON shards and text files, in little memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/data/stories_json.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm {

/// What a StoryReader does about errors.
struct StoryReaderOptions {
  bool keep_going = false;  ///< skip records without a story, and what follows a syntax error in a shard; count both
};

/// What a StoryReader had to leave out.
struct ReaderCounts {
  index_t read = 0;              ///< stories given out
  index_t without_story = 0;     ///< records without one string "story"
  index_t damaged_shards = 0;    ///< shards with a syntax error
  std::uint64_t lost_bytes = 0;  ///< from the syntax errors to the ends of their shards
};

namespace detail {

/// Stories of a text file: separated by <|endoftext|>, or one per line where that does not occur.
class TextStories {
 public:
  static constexpr std::string_view separator = "<|endoftext|>";

  /// How stories are told apart.
  enum class Form { lines, separators };

  explicit TextStories(const std::filesystem::path& path) : file_(path, op) {
    by_line_ = !contains_separator();
    file_.rewind();
    text_.clear();
  }
  TextStories(const std::filesystem::path& path, Form form) : file_(path, op), by_line_(form == Form::lines) {}

  /// The next story as it stands in the file; false at the end.
  [[nodiscard]] bool next(std::string& story) {
    const std::string_view delimiter = by_line_ ? std::string_view("\n") : separator;
    while (true) {
      const std::size_t end = text_.find(delimiter, searched_);
      const bool last = end == std::string::npos && ended_;
      if (end == std::string::npos && !ended_) {
        searched_ = std::max(at_, text_.size() - std::min(text_.size(), delimiter.size() - 1));
        fill();
        continue;
      }
      const std::string_view found =
          without_line_ends(std::string_view(text_).substr(at_, last ? std::string::npos : end - at_));
      // Blank lines, and nothing but line ends after the last separator, are no stories; between separators they are.
      const bool blank = (by_line_ || last) && found.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
      if (!blank) story.assign(found);
      at_ = searched_ = last ? text_.size() : end + delimiter.size();
      if (!blank) return true;
      if (last) return false;
    }
  }
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return read_; }

 private:
  static constexpr std::string_view op = "StoryReader";

  /// The line ends beside a separator belong to the file's form, not to the story.
  static std::string_view without_line_ends(std::string_view text) {
    const std::size_t first = text.find_first_not_of("\r\n");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of("\r\n") + 1 - first);
  }

  [[nodiscard]] bool contains_separator() {
    while (!ended_) {
      at_ = text_.size() - std::min(text_.size(), separator.size() - 1);
      fill();
      if (text_.find(separator) != std::string::npos) break;
    }
    const bool found = text_.find(separator) != std::string::npos;
    at_ = searched_ = 0;
    read_ = 0;
    ended_ = false;
    return found;
  }

  /// Forgets what lies before at_ and reads on.
  void fill() {
    text_.erase(0, at_);
    searched_ -= std::min(searched_, at_);
    at_ = 0;
    expects<FormatError>(text_.size() <= max_story_bytes, op, file_.path(), " at byte ", read_ - text_.size(),
                         ": a story of more than ", max_story_bytes, " bytes");
    const std::size_t before = text_.size();
    text_.resize(before + chunk_bytes);
    const std::size_t got = file_.read(text_.data() + before, chunk_bytes);
    text_.resize(before + got);
    read_ += got;
    ended_ = got == 0;
  }

  InputFile file_;
  std::string text_;
  std::size_t at_ = 0;        // where the next story begins
  std::size_t searched_ = 0;  // no delimiter begins before this
  std::uint64_t read_ = 0;
  bool ended_ = false;
  bool by_line_ = false;
};

}  // namespace detail

/// Goes through files and folders of stories. A folder stands for its .json files in the order of their names; a .json
/// file is an array of objects whose string "story" counts (other keys are ignored); a .txt file holds stories
/// separated by <|endoftext|>, or, without that, one per line. Stories come out raw: see clean_story(). In memory are
/// one read buffer and one record.
class StoryReader {
 public:
  /// @throws IoError when an input does not exist, ArgumentError when it is neither .json nor .txt or a folder has no
  /// .json
  explicit StoryReader(const std::vector<std::filesystem::path>& inputs, const StoryReaderOptions& options = {})
      : options_(options) {
    for (const std::filesystem::path& input : inputs) add(input);
    expects<ArgumentError>(!files_.empty(), op, "there is no input");
  }

  /// The next story; false at the end of the last file.
  /// @throws FormatError with file, byte offset and reason: a record without a string "story" or, in JSON, a syntax
  /// error; with keep_going they are counted and reported instead
  [[nodiscard]] bool next(std::string& story) {
    while (true) {
      if (std::holds_alternative<std::monostate>(current_) && !open_next()) return false;
      if (auto* text = std::get_if<detail::TextStories>(&current_)) {
        if (text->next(story)) return ++counts_.read, true;
      } else if (next_record(std::get<detail::JsonStories>(current_), story)) {
        return ++counts_.read, true;
      }
      finished_bytes_ += files_[file_ - 1].bytes;
      current_.emplace<std::monostate>();
    }
  }

  /// What was read and left out so far.
  [[nodiscard]] const ReaderCounts& counts() const noexcept { return counts_; }
  /// One line for each thing left out, with file and byte offset; the first hundred.
  [[nodiscard]] const std::vector<std::string>& reports() const noexcept { return reports_; }
  /// Number of files in all inputs.
  [[nodiscard]] std::size_t files() const noexcept { return files_.size(); }
  /// Their size together.
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }
  /// How far reading has come in total_bytes().
  [[nodiscard]] std::uint64_t bytes_read() const noexcept {
    if (const auto* text = std::get_if<detail::TextStories>(&current_)) return finished_bytes_ + text->bytes_read();
    if (const auto* json = std::get_if<detail::JsonStories>(&current_)) return finished_bytes_ + json->bytes_read();
    return finished_bytes_;
  }

 private:
  static constexpr std::string_view op = "StoryReader";
  static constexpr std::size_t max_reports = 100;

  struct File {
    std::filesystem::path path;
    std::uint64_t bytes;
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
    files_.push_back({path, file.size()});
    total_bytes_ += file.size();
  }

  [[nodiscard]] bool open_next() {
    if (file_ == files_.size()) return false;
    const std::filesystem::path& path = files_[file_++].path;
    if (path.extension() == ".json") {
      current_.emplace<detail::JsonStories>(path);
    } else {
      current_.emplace<detail::TextStories>(path);
    }
    return true;
  }

  /// The next story of a shard; false when there is none left.
  [[nodiscard]] bool next_record(detail::JsonStories& shard, std::string& story) {
    while (true) {
      const detail::JsonStories::Outcome outcome = shard.next(story);
      using Kind = detail::JsonStories::Kind;
      if (outcome.kind == Kind::story) return true;
      if (outcome.kind == Kind::end) return false;
      std::ostringstream report;
      report << files_[file_ - 1].path << " at byte " << outcome.at << ": " << outcome.reason;
      expects<FormatError>(options_.keep_going, op, report.str());
      if (outcome.kind == Kind::no_story) {
        ++counts_.without_story;
        note(report.str());
        continue;
      }
      const std::uint64_t lost = files_[file_ - 1].bytes - std::min(files_[file_ - 1].bytes, outcome.record_at);
      report << "; the rest of the shard is lost: " << lost << " bytes";
      ++counts_.damaged_shards;
      counts_.lost_bytes += lost;
      note(report.str());
      return false;
    }
  }

  void note(std::string report) {
    if (reports_.size() < max_reports) reports_.push_back(std::move(report));
  }

  StoryReaderOptions options_;
  std::vector<File> files_;
  std::size_t file_ = 0;  // files opened so far
  std::variant<std::monostate, detail::JsonStories, detail::TextStories> current_;
  ReaderCounts counts_;
  std::vector<std::string> reports_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t finished_bytes_ = 0;
};

}  // namespace storylm
