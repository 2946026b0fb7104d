// SPDX-License-Identifier: MIT
/// @file
/// @brief What a training run reads, and the folder it writes.
#pragma once

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/io/checkpoint.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/train/run_state.hpp>

#include "program.hpp"

namespace program {

/// The data, the tokenizer it was made with, and proof that they belong together.
struct StoryData {
  storylm::SentencePieceTokenizer tokenizer;
  storylm::TokenFile tokens;

  explicit StoryData(const std::filesystem::path& folder)
      : tokenizer(storylm::SentencePieceTokenizer::load(folder / "bpe.model")), tokens(folder / "stories.tokens") {
    storylm::expects<storylm::FormatError>(
        tokens.info().tokenizer_hash == tokenizer.hash(), "train_stories", tokens.path().string(),
        ": was made with the tokenizer ", storylm::detail::hash_text(tokens.info().tokenizer_hash), ", but ",
        (folder / "bpe.model").string(), " is ", storylm::detail::hash_text(tokenizer.hash()));
    storylm::expects<storylm::FormatError>(tokens.info().lowercase == tokenizer.lowercase(), "train_stories",
                                           tokens.path().string(), ": its text was ",
                                           tokens.info().lowercase ? "" : "not ", "lower-cased, the settings of ",
                                           (folder / "bpe.model").string(), " say otherwise");
    tokens.verify();
  }
};

/// The folder of a run: made when missing, and this program's alone as long as the object lives.
class RunFolder {
 public:
  /// @throws storylm::ArgumentError when `path` is a file, storylm::WriteError when nothing can be written there or
  /// another program trains there
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {
    using storylm::WriteError;
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    const std::string reason = error.message();
    if (!std::filesystem::is_directory(path_, error)) {
      storylm::expects<storylm::ArgumentError>(!std::filesystem::exists(path_, error), op, path_,
                                               " is a file, not a folder");
      storylm::expects<WriteError>(false, op, "cannot make ", path_, ": ", reason);
    }
    const std::filesystem::path name = file("train.log");
    log_ = storylm::detail::FileDescriptor(::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    storylm::detail::expects_system<WriteError>(log_.get() >= 0, op, "cannot write ", name);
    const bool taken = ::flock(log_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    storylm::expects<WriteError>(!taken, op, "another train_stories is at work in ", path_);
  }

  [[nodiscard]] std::filesystem::path file(std::string_view name) const { return path_ / name; }

  /// Writes the text to standard error and to the log.
  void say(ProgressLine& progress, const std::string& text) const {
    log(text);
    progress.finish();
    std::cerr << text << std::endl;
  }
  /// Writes the text with the time of day to train.log. The log is no part of a run: a full disk is for those files to
  /// report that are.
  void log(const std::string& text) const {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    std::ostringstream line;
    line << std::put_time(&local, "%F %T  ") << text << '\n';
    [[maybe_unused]] const auto written = ::write(log_.get(), line.str().data(), line.str().size());
  }

  /// Copies the tokenizer here; a run that goes on must have the same one.
  /// @throws storylm::FormatError when it has another, storylm::WriteError when it cannot be written
  void keep(const storylm::SentencePieceTokenizer& tokenizer, bool goes_on) const {
    const std::filesystem::path copy = file("bpe.model");
    if (goes_on && std::filesystem::exists(copy)) {
      const auto name = [](const storylm::SentencePieceTokenizer& t) {
        return storylm::detail::hash_text(t.hash()) + (t.lowercase() ? " for lower-cased text" : "");
      };
      const std::string kept = name(storylm::SentencePieceTokenizer::load(copy));
      storylm::expects<storylm::FormatError>(kept == name(tokenizer), op, copy, " is the tokenizer ", kept,
                                             ", the data were made with ", name(tokenizer));
    } else {
      tokenizer.save(copy);
    }
  }

 private:
  static constexpr std::string_view op = "run folder";

  std::filesystem::path path_;
  storylm::detail::FileDescriptor log_;  // its lock is the folder's
};

/// The run goes on from here.
inline constexpr std::string_view last_checkpoint = "checkpoint_last.safetensors";
/// The one before.
inline constexpr std::string_view previous_checkpoint = "checkpoint_previous.safetensors";

/// After which step the checkpoint was written; nothing when it is missing, damaged, or no checkpoint of train_stories.
inline std::optional<std::uint64_t> step_of_whole(const std::filesystem::path& checkpoint) {
  try {
    const storylm::io::CheckpointReader reader(checkpoint);
    reader.verify();
    return reader.file().read<std::uint64_t>("run.step.steps", {}).front();
  } catch (const storylm::Error&) {
    return std::nullopt;
  }
}
/// Says with which flag the run goes on, if anything in the folder is whole.
inline std::string way_out(const RunFolder& folder) {
  for (const std::string_view name : {previous_checkpoint, std::string_view("checkpoint_best.safetensors")}) {
    const std::filesystem::path path = folder.file(name);
    if (const auto step = step_of_whole(path)) {
      return "; " + std::string(name) + " is whole, after step " + std::to_string(*step) +
             ": to go on from it, add --resume-from '" + path.string() + "'";
    }
  }
  return "; there is no other whole checkpoint: begin in another folder";
}
/// Loads the checkpoint. One that is damaged is not passed over in silence: the user says from where to go on.
/// @throws storylm::FormatError, storylm::IoError
inline void load_checkpoint(storylm::train::RunState& state, const std::filesystem::path& path,
                            const RunFolder& folder) {
  try {
    state.load(path);
  } catch (const storylm::FormatError& error) {
    if (step_of_whole(path)) throw;  // it is whole, and another run's or of other flags
    throw storylm::FormatError(error.what() + way_out(folder));
  }
}
/// @throws storylm::FormatError when the folder has a run, but no checkpoint_last
inline void expect_no_checkpoint(const RunFolder& folder) {
  std::error_code error;
  storylm::expects<storylm::FormatError>(!std::filesystem::exists(folder.file(previous_checkpoint), error),
                                         "run folder", folder.file(last_checkpoint).string(), " is missing",
                                         way_out(folder));
}

}  // namespace program
