// SPDX-License-Identifier: MIT
// LINK: io sentencepiece cuda
// Says how probable a language model finds stories: perplexity, bits per byte and error bars for each file.
//
//   judge_stories --judge gpt2 --input stories.txt shard.json --json scores.json
//
// A story's score depends on the story, the judge and the policy, which is printed: not on the other stories, their
// order or the number of threads.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include <storylm/detail/atomic_file.hpp>
#include <storylm/evaluate/judge.hpp>
#include <storylm/io/json.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "devices.hpp"
#include "model_source.hpp"
#include "program.hpp"
#include "story_files.hpp"
#include "story_text.hpp"

namespace {

using namespace storylm;

struct Flags {
  std::filesystem::path judge;
  std::filesystem::path tokenizer;
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path json;
  std::string bos = "auto";
  index_t context = 0;
  index_t stride = 0;
  bool transformers_compatible = false;
  program::ComputeFlags compute{.half_on_cpu = true};
};

/// How stories are read, and why so.
struct Policy {
  evaluate::JudgePolicy judge;
  std::string bos_reason;
};

struct FileScores {
  std::filesystem::path file;
  std::vector<evaluate::StoryScore> stories;
  evaluate::Summary summary;
};

Policy make_policy(const Flags& flags, const LoadedTokenizer& loaded, index_t max_len) {
  Policy policy;
  policy.judge = {.context = flags.context, .stride = flags.stride, .bos_id = loaded.tokenizer.bos()};
  if (flags.transformers_compatible) policy.judge.denominator = evaluate::Denominator::transformers_guide;
  policy.judge.bos = flags.bos == "always" || (flags.bos == "auto" && loaded.adds_bos);
  policy.bos_reason = flags.bos != "auto"         ? "as --bos says"
                      : loaded.adds_bos_is_stated ? "as the tokenizer's configuration says"
                                                  : "as is usual for its kind of tokenizer";
  expects<ArgumentError>(!policy.judge.bos || policy.judge.bos_id >= 0, "judge_stories",
                         "stories are to begin with BOS, but the tokenizer has none: --bos never");
  policy.judge = evaluate::resolved(policy.judge, max_len);
  return policy;
}

/// What is done to text before the judge sees it, and the judge's policy.
std::string policy_words(const Policy& policy) {
  return "text as it stands in the file, without whitespace at its ends, through the judge's own tokenizer; " +
         evaluate::words(policy.judge) + "; BOS or not: " + policy.bos_reason +
         "; bits per byte of UTF-8 of the text that is predicted; standard error of the mean over stories";
}
/// The same, a line for each clause.
std::string policy_lines(const Policy& policy) {
  std::string text = policy_words(policy);
  for (std::size_t at = 0; (at = text.find("; ", at)) != std::string::npos;) text.replace(at, 2, "\n  ");
  return text;
}

/// How far scoring has come, over all files; how long it will take is told by bytes.
class Progress {
 public:
  explicit Progress(const std::vector<std::filesystem::path>& files) {
    for (const auto& file : files) {
      std::error_code error;
      const auto size = std::filesystem::file_size(file, error);
      bytes_.push_back(error ? 0.0 : static_cast<double>(size));
      total_ += bytes_.back();
    }
  }
  void begin(const std::filesystem::path& file, std::size_t stories) {
    file_ = program::printable(file.filename().string());
    stories_ = stories;
    tokens_before_ += std::exchange(tokens_, 0);
  }
  void show(const evaluate::JudgeProgress& progress) {
    tokens_ = progress.tokens;
    if (!line_.due()) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double done =
        done_ + bytes_[next_] * static_cast<double>(progress.tokens) / static_cast<double>(progress.total_tokens);
    std::ostringstream line;
    line << file_ << ": " << progress.stories << " of " << stories_ << " stories, " << std::fixed
         << std::setprecision(0) << speed() << " tokens/s";
    if (done > 0.0) line << ", " << duration(seconds * (total_ - done) / done) << " left";
    line_.show(line.str());
  }
  void end() {
    done_ += bytes_[next_++];
    line_.finish();
  }
  [[nodiscard]] index_t tokens() const { return tokens_before_ + tokens_; }
  [[nodiscard]] double speed() const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return static_cast<double>(tokens()) / std::max(seconds, 1e-9);
  }

 private:
  static std::string duration(double seconds) {
    const auto whole = static_cast<std::int64_t>(std::min(std::ceil(std::max(0.0, seconds)), 1e9));
    std::ostringstream text;
    text << whole / 3600 << ':' << std::setfill('0') << std::setw(2) << whole / 60 % 60 << ':' << std::setw(2)
         << whole % 60;
    return text.str();
  }

  std::vector<double> bytes_;  // of the files
  double total_ = 0.0;
  double done_ = 0.0;     // of files that are done
  std::size_t next_ = 0;  // file
  std::string file_;
  std::size_t stories_ = 0;
  index_t tokens_ = 0;  // of the file at hand
  index_t tokens_before_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  program::ProgressLine line_;
};

/// A table that is printed row by row; the file comes last, for its name has any length.
struct Column {
  std::string_view name;
  int width;
};
constexpr std::array<Column, 8> columns{{{"stories", 7},
                                         {"skipped", 9},
                                         {"tokens", 11},
                                         {"mean nll", 10},
                                         {"std error", 11},
                                         {"perplexity", 12},
                                         {"over stories", 14},
                                         {"bits/byte", 11}}};

void print_row(const std::array<std::string_view, columns.size()>& cells, std::string_view file) {
  for (std::size_t i = 0; i < columns.size(); ++i) std::cout << std::setw(columns[i].width) << cells[i];
  std::cout << "  " << file << std::endl;
}
void print_header() {
  std::array<std::string_view, columns.size()> names;
  std::transform(columns.begin(), columns.end(), names.begin(), [](const Column& column) { return column.name; });
  print_row(names, "file");
}
void print_row(const FileScores& file) {
  const evaluate::Summary& s = file.summary;
  const auto real = [](double value) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(4) << value;
    return std::isfinite(value) ? text.str() : std::string("-");
  };
  const std::array<std::string, columns.size()> cells{
      std::to_string(s.stories), std::to_string(s.skipped), std::to_string(s.tokens),        real(s.mean_nll),
      real(s.standard_error),    real(s.perplexity),        real(s.perplexity_over_stories), real(s.bits_per_byte)};
  std::array<std::string_view, columns.size()> views;
  std::copy(cells.begin(), cells.end(), views.begin());
  print_row(views, program::printable(file.file.string()));
}

boost::json::value number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return value;
}

std::string json_text(const Flags& flags, const Policy& policy, const std::vector<FileScores>& files) {
  boost::json::array all;
  for (const FileScores& file : files) {
    const evaluate::Summary& s = file.summary;
    boost::json::array stories;
    for (const evaluate::StoryScore& score : file.stories) {
      boost::json::object story;
      story["tokens"] = score.tokens;
      story["nll"] = number(score.nll);
      stories.push_back(std::move(story));
    }
    boost::json::object entry;
    entry["file"] = program::printable(file.file.string());
    entry["stories"] = s.stories;
    entry["tokens"] = s.tokens;
    entry["mean_nll"] = number(s.mean_nll);
    entry["perplexity"] = number(s.perplexity);
    entry["perplexity_over_stories"] = number(s.perplexity_over_stories);
    entry["bits_per_byte"] = number(s.bits_per_byte);
    entry["standard_error"] = number(s.standard_error);
    entry["skipped"] = s.skipped;
    entry["per_story"] = std::move(stories);
    all.push_back(std::move(entry));
  }
  boost::json::object words;
  words["judge"] = program::printable(flags.judge.string());
  words["bos"] = policy.judge.bos;
  words["bos_id"] = policy.judge.bos ? boost::json::value(policy.judge.bos_id) : boost::json::value(nullptr);
  words["context"] = policy.judge.context;
  words["stride"] = policy.judge.stride;
  words["denominator"] =
      policy.judge.denominator == evaluate::Denominator::transformers_guide ? "transformers guide" : "predicted tokens";
  words["device"] = flags.compute.device;
  words["dtype"] = flags.compute.dtype;
  words["words"] = policy_words(policy);
  boost::json::object document;
  document["policy"] = std::move(words);
  document["files"] = std::move(all);
  return io::json_text(document) + '\n';
}

/// Scores the files; none when a signal stopped it.
template <class Stack>
std::optional<std::vector<FileScores>> score_files(const Flags& flags, const Stack& stack,
                                                   const LoadedTokenizer& loaded, const Policy& policy) {
  evaluate::Judge<Stack> judge(stack, policy.judge);
  Progress progress(flags.inputs);
  std::vector<FileScores> files;
  for (const std::filesystem::path& path : flags.inputs) {
    std::vector<evaluate::JudgeStory> stories;
    program::for_each_story(path, [&](std::string_view text) {
      if (program::stop_signal == 0) stories.push_back(program::judge_story(loaded.tokenizer, text, policy.judge.bos));
    });
    progress.begin(path, stories.size());
    FileScores& file = files.emplace_back();
    file.file = path;
    file.stories = judge.score(stories, [&](const evaluate::JudgeProgress& at) {
      progress.show(at);
      return program::stop_signal == 0;
    });
    progress.end();
    if (program::stop_signal != 0) return std::nullopt;
    file.summary = evaluate::summarise(file.stories);
    print_row(file);
  }
  std::cerr << progress.tokens() << " tokens scored, " << std::fixed << std::setprecision(0) << progress.speed()
            << " tokens/s, reading and encoding included\n";
  return files;
}

int judge(Flags& flags) {
  flags.compute.check();
  expects<ArgumentError>(flags.bos == "auto" || flags.bos == "always" || flags.bos == "never", "judge_stories",
                         "--bos must be auto, always or never: ", flags.bos);
  expects<ArgumentError>(flags.context >= 0 && flags.stride >= 0, "judge_stories",
                         "--context and --stride must not be negative: ", flags.context, ", ", flags.stride);
  for (const auto& path : flags.inputs)
    expects<IoError>(std::filesystem::exists(path), "judge_stories", path, ": there is no such file");
  const program::ModelSource source(flags.judge);
  const LoadedTokenizer loaded = source.tokenizer(flags.tokenizer);
  const Policy policy = make_policy(flags, loaded, source.config().max_len);
  std::optional<detail::AtomicFile> json;  // found out now that it cannot be written, not when all is done
  if (!flags.json.empty()) json.emplace(flags.json);
  std::cout << "Judge: " << program::printable(flags.judge.string()) << ", " << parameter_count(source.config())
            << " parameters in " << flags.compute.dtype << "\nPolicy:\n  " << policy_lines(policy) << "\n\n";
  print_header();
  const auto files =
      program::with_device<true>(flags.compute, [&]<class P, class D>(std::type_identity<P>, const D& device) {
        return nn::with_stack_type<P, D>(source.config(), [&]<class Stack>(std::type_identity<Stack>) {
          source.expects_memory<P, D>();
          Stack stack(source.config(), device, source.options(), nn::Gradients::no);
          source.load_into(stack);
          return score_files(flags, stack, loaded, policy);
        });
      });
  if (!files) {
    std::cerr << "judge_stories: stopped" << (json ? "; the JSON file was not written" : "") << '\n';
    return program::stopped_exit_code();
  }
  if (json) {
    json->write(json_text(flags, policy, *files));
    json->publish();
  }
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Says how probable a language model finds stories: perplexity, bits per byte and error bars of each file",
      "judge_stories");
  app.add_option("--judge", flags.judge,
                 "the language model: a Hugging Face folder (GPT-2, Llama, Mistral) or a checkpoint of train_stories")
      ->required();
  app.add_option("--input", flags.inputs,
                 "files of stories: .json shards; others are text, stories separated by <|endoftext|> or, without "
                 "that, one per line")
      ->required();
  app.add_option("--stride", flags.stride,
                 "tokens from one window of a longer story to the next (default: half of the context)");
  app.add_option("--context", flags.context, "tokens the judge sees at once (default: as many as it was made for)");
  app.add_option("--bos", flags.bos,
                 "BOS before every story: always, never, or auto: as the tokenizer's folder says, else yes for "
                 "SentencePiece (Llama 2, Mistral, our checkpoints), no for byte-level BPE (GPT-2, Llama 3)")
      ->capture_default_str();
  app.add_flag("--transformers-compatible", flags.transformers_compatible,
               "windows and denominator of the perplexity guide of Hugging Face transformers (default: every token is "
               "predicted once and counts once)");
  app.add_option("--tokenizer-path", flags.tokenizer,
                 "a folder with a tokenizer, or a .model file (default: what lies with the judge)");
  app.add_option("--json", flags.json, "file that gets policy, numbers and the score of every story (default: none)");
  flags.compute.add_to(app);
  program::catch_stop_signals();
  program::survive_closed_pipes();
  return program::run(app, argc, argv, [&flags] { return judge(flags); });
}
