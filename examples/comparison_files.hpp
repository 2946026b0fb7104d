// SPDX-License-Identifier: MIT
/// @file
/// @brief What a row of a comparison depends on, and the files that keep finished rows.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/evaluate/summary.hpp>
#include <storylm/io/json.hpp>

namespace program {

/// Tells a model from any other by its files' contents.
struct ModelIdentity {
  std::string hash{};       ///< of the contents, see model_identity()
  std::uint64_t bytes = 0;  ///< of all files
};

/// Of a file all that a hash of moderate cost can take in: files of up to 64 MiB as a whole; of a larger one its size,
/// its first MiB (where safetensors has names, shapes and, of our checkpoints, each tensor's hash) and 4 KiB of every
/// 4 MiB. Neither times nor paths: a copy is the same model. Weights trained further differ nearly everywhere.
inline void hash_contents(const std::filesystem::path& path, storylm::detail::Hash64& hash, std::uint64_t& bytes) {
  constexpr std::uint64_t mib = std::uint64_t{1} << 20U;
  storylm::detail::InputFile file(path, "comparison");
  bytes += file.size();
  hash.update("size " + std::to_string(file.size()) + '\n');
  std::vector<char> block(mib);
  const auto take = [&](std::uint64_t at, std::uint64_t count) {
    while (count > 0) {
      const ::ssize_t got =
          ::pread(file.descriptor(), block.data(), std::min<std::uint64_t>(count, mib), static_cast<::off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      storylm::detail::expects_system<storylm::IoError>(got >= 0, "comparison", "cannot read ", path);
      storylm::expects<storylm::IoError>(got > 0, "comparison", path, " became shorter while it was read");
      hash.update(std::string_view(block.data(), static_cast<std::size_t>(got)));
      at += static_cast<std::uint64_t>(got);
      count -= static_cast<std::uint64_t>(got);
    }
  };
  if (file.size() <= 64 * mib) return take(0, file.size());
  take(0, mib);
  for (std::uint64_t at = 4 * mib; at < file.size(); at += 4 * mib)
    take(at, std::min<std::uint64_t>(4096, file.size() - at));
}

/// The identity of a checkpoint file, or of a folder: of its .json, .safetensors and .model files and merges.txt, with
/// their names. @throws storylm::IoError when there is no such file, or a folder has none of these
inline ModelIdentity model_identity(const std::filesystem::path& path) {
  ModelIdentity identity;
  storylm::detail::Hash64 hash;
  if (std::filesystem::is_directory(path)) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      const auto extension = entry.path().extension();
      const bool counts = extension == ".json" || extension == ".safetensors" || extension == ".model" ||
                          entry.path().filename() == "merges.txt";
      if (counts && entry.is_regular_file()) files.push_back(entry.path());
    }
    storylm::expects<storylm::IoError>(!files.empty(), "comparison", path, ": there is no model in this folder");
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      hash.update("name " + file.filename().string() + '\n');
      hash_contents(file, hash, identity.bytes);
    }
  } else {
    hash_contents(path, hash, identity.bytes);
  }
  identity.hash = storylm::detail::hash_text(hash.value());
  return identity;
}

/// Throws unless what was loaded from `path` is what the rows will be kept for. @throws storylm::FormatError
inline void expects_identity(const std::filesystem::path& path, const std::string& identity) {
  storylm::expects<storylm::FormatError>(model_identity(path).hash == identity, "comparison", path,
                                         ": was replaced while the comparison was at work");
}

/// A row's stories, and how they were written.
struct WrittenRow {
  std::vector<std::string> stories{};      ///< one line each, prompt included
  std::vector<storylm::index_t> tokens{};  ///< of each, by the writer's tokenizer, prompt included and EOS not
  std::vector<bool> ended{};               ///< by EOS, else by length
  storylm::index_t drawn = 0;              ///< tokens drawn, EOS included
  double seconds = 0.0;                    ///< that drawing took
};
/// What the judge says of a row.
struct ScoredRow {
  std::vector<storylm::evaluate::StoryScore> scores{};  ///< of each story
  double seconds = 0.0;                                 ///< that judging took
};

/// Where finished rows are: stories/<row>.txt, rows/<row>.stories.json and rows/<row>.scores.json in one folder, each
/// complete or absent, each with a key: an object of all that it depends on. A row is taken up again when its key is
/// the same. Else it is refused, naming the first difference, unless told to redo such rows: never silently mixed.
/// The folder is this object's alone as long as it lives.
class RowFiles {
 public:
  /// @throws storylm::WriteError when the folder cannot be made or another program is at work in it
  RowFiles(std::filesystem::path folder, bool redo) : folder_(std::move(folder)), redo_(redo) {
    for (const auto& part : {folder_ / "stories", folder_ / "rows"}) {
      std::error_code error;
      std::filesystem::create_directories(part, error);
      storylm::expects<storylm::WriteError>(std::filesystem::is_directory(part), op, "cannot make ", part, ": ",
                                            error ? error.message() : "a file has that name");
    }
    lock_ = storylm::detail::FileDescriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool taken = ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    storylm::expects<storylm::WriteError>(!taken, op, "another comparison is at work in ", folder_);
  }

  /// The row's stories, separated by <|endoftext|>: the form that keeps empty ones.
  [[nodiscard]] std::filesystem::path stories_path(const std::string& row) const {
    return folder_ / "stories" / (row + ".txt");
  }
  /// What is known of the row's stories.
  [[nodiscard]] std::filesystem::path written_path(const std::string& row) const {
    return folder_ / "rows" / (row + ".stories.json");
  }
  /// What the judge said of them.
  [[nodiscard]] std::filesystem::path scored_path(const std::string& row) const {
    return folder_ / "rows" / (row + ".scores.json");
  }

  /// The table as a page, which is there when all rows are done.
  [[nodiscard]] std::filesystem::path page_path() const { return folder_ / "comparison.html"; }
  /// The table as JSON.
  [[nodiscard]] std::filesystem::path table_path() const { return folder_ / "comparison.json"; }

  /// The row's stories if they are written. @throws storylm::FormatError when they are others, unless to be redone
  [[nodiscard]] std::optional<WrittenRow> written(const std::string& row, const boost::json::object& key) const {
    return take_up(written_path(row), key, [&](const boost::json::object& found, const std::string& name) {
      const std::string text = storylm::detail::read_file(stories_path(row), op);
      const auto hash = storylm::detail::hash_text(storylm::detail::hash64(text));
      storylm::expects<storylm::FormatError>(hash == storylm::io::get<std::string>(found, "hash", name), op,
                                             stories_path(row), ": is not what was written");
      WrittenRow result{.stories = split(text),
                        .tokens = storylm::io::get<std::vector<storylm::index_t>>(found, "tokens", name),
                        .drawn = storylm::io::get<storylm::index_t>(found, "drawn", name),
                        .seconds = storylm::io::get<double>(found, "seconds", name)};
      for (const bool ended : storylm::io::get<std::vector<bool>>(found, "ended", name)) result.ended.push_back(ended);
      storylm::expects<storylm::FormatError>(
          result.stories.size() == result.tokens.size() && result.stories.size() == result.ended.size(), op, name,
          ": has ", result.tokens.size(), " stories, ", stories_path(row), " has ", result.stories.size());
      return result;
    });
  }
  /// Writes them. What stands there of an older row goes first, and before it a table that tells of it, so that no
  /// moment has parts of both.
  /// @throws storylm::WriteError
  void keep(const std::string& row, const boost::json::object& key, const WrittenRow& written) const {
    if (std::filesystem::exists(stories_path(row))) remove({page_path(), table_path()});
    remove({scored_path(row), written_path(row)});
    const std::string text = join(written.stories);
    boost::json::object document;
    document["key"] = key;
    document["hash"] = storylm::detail::hash_text(storylm::detail::hash64(text));
    document["drawn"] = written.drawn;
    document["seconds"] = written.seconds;
    document["tokens"] = boost::json::array(written.tokens.begin(), written.tokens.end());
    document["ended"] = boost::json::array(written.ended.begin(), written.ended.end());
    storylm::detail::AtomicFile stories(stories_path(row));
    storylm::detail::AtomicFile about(written_path(row));
    stories.write(text);
    about.write(storylm::io::json_text(document) + '\n');
    storylm::detail::AtomicFile::publish_all({&stories, &about});
  }

  /// The row's scores if there are any. @throws storylm::FormatError when they are others, unless to be redone
  [[nodiscard]] std::optional<ScoredRow> scored(const std::string& row, const boost::json::object& key) const {
    return take_up(scored_path(row), key, [&](const boost::json::object& found, const std::string& name) {
      using storylm::index_t;
      const auto tokens = storylm::io::get<std::vector<index_t>>(found, "tokens", name);
      const auto nll = storylm::io::get<std::vector<double>>(found, "nll", name);
      const auto targets = storylm::io::get<std::vector<index_t>>(found, "targets", name);
      const auto bytes = storylm::io::get<std::vector<index_t>>(found, "bytes", name);
      storylm::expects<storylm::FormatError>(
          nll.size() == tokens.size() && targets.size() == tokens.size() && bytes.size() == tokens.size(), op, name,
          ": has lists of ", tokens.size(), ", ", nll.size(), ", ", targets.size(), " and ", bytes.size());
      ScoredRow result{.seconds = storylm::io::get<double>(found, "seconds", name)};
      for (std::size_t i = 0; i < tokens.size(); ++i)
        result.scores.push_back({.tokens = tokens[i], .nll = nll[i], .targets = targets[i], .bytes = bytes[i]});
      return result;
    });
  }
  /// Writes them. A table that tells of older ones goes first. @throws storylm::WriteError
  void keep(const std::string& row, const boost::json::object& key, const ScoredRow& scored) const {
    boost::json::object document;
    document["key"] = key;
    document["seconds"] = scored.seconds;
    boost::json::array tokens, nll, targets, bytes;
    for (const storylm::evaluate::StoryScore& score : scored.scores) {
      storylm::expects(std::isfinite(score.nll), op, "story ", tokens.size(), " of ", row,
                       ": the judge's score is not a finite number; --judge-dtype float32 has the widest range");
      tokens.push_back(score.tokens);
      nll.push_back(score.nll);
      targets.push_back(score.targets);
      bytes.push_back(score.bytes);
    }
    document["tokens"] = std::move(tokens);
    document["nll"] = std::move(nll);
    document["targets"] = std::move(targets);
    document["bytes"] = std::move(bytes);
    if (std::filesystem::exists(scored_path(row))) remove({page_path(), table_path()});
    storylm::detail::write_file(scored_path(row), storylm::io::json_text(document) + '\n');
  }

  /// The stories of one row as a file, and back.
  [[nodiscard]] static std::string join(std::span<const std::string> stories) {
    std::string text;
    for (const std::string& story : stories) ((((text += story) += '\n') += separator) += '\n');
    return text;
  }
  [[nodiscard]] static std::vector<std::string> split(std::string_view text) {
    const std::string end = '\n' + std::string(separator) + '\n';
    std::vector<std::string> stories;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t found = std::min(text.find(end, at), text.size());
      stories.emplace_back(text.substr(at, found - at));
      at = found + end.size();
    }
    return stories;
  }
  /// `story` as a line of such a file: the separator, if a model should spell it, is broken up by a space.
  [[nodiscard]] static std::string storable(std::string story) {
    for (std::size_t at = 0; (at = story.find(separator, at)) != std::string::npos;) story.insert(at + 1, 1, ' ');
    return story;
  }

 private:
  static constexpr std::string_view op = "comparison";
  static constexpr std::string_view separator = "<|endoftext|>";

  static void remove(std::initializer_list<std::filesystem::path> files) {
    for (const auto& file : files) {
      std::error_code error;
      std::filesystem::remove(file, error);
      storylm::expects<storylm::WriteError>(!error, op, "cannot remove ", file, ": ", error.message());
    }
  }
  /// Reads a row's file by `read` if it is there with that key.
  template <class F>
  auto take_up(const std::filesystem::path& path, const boost::json::object& key, F&& read) const
      -> std::optional<decltype(read(key, std::string()))> {
    if (!std::filesystem::exists(path)) return std::nullopt;
    const std::string name = path.string();
    try {
      const boost::json::value document =
          storylm::io::read_json(path, {.bytes = std::size_t{1} << 30U, .values = std::size_t{1} << 28U});
      const boost::json::object& found = storylm::io::as_object(document, name);
      expect_key(storylm::io::get<boost::json::object>(found, "key", name), key, name);
      return read(found, name);
    } catch (const storylm::Error& error) {
      if (redo_) return std::nullopt;
      storylm::detail::fail<storylm::FormatError>(
          op, error.what(), ": choose another --output-dir, or let --redo make again what does not fit");
    }
  }
  static void expect_key(const boost::json::object& found, const boost::json::object& expected,
                         const std::string& name) {
    for (const auto& field : expected) {
      const boost::json::value* const value = found.if_contains(field.key());
      const std::string is = value == nullptr ? "not said" : storylm::io::json_text(*value);
      const std::string now = storylm::io::json_text(field.value());
      storylm::expects<storylm::FormatError>(is == now, op, name, ": was made with ", std::string(field.key()), " ", is,
                                             ", now it is ", now);
    }
    storylm::expects<storylm::FormatError>(found.size() == expected.size(), op, name,
                                           ": was made with more settings than there are now");
  }

  std::filesystem::path folder_;
  bool redo_;
  storylm::detail::FileDescriptor lock_;
};

}  // namespace program
