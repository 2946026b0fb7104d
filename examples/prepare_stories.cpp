// SPDX-License-Identifier: MIT
// From folders of story shards to what training reads: stories.txt, bpe.model, bpe.vocab, bpe.settings.json,
// stories.tokens.
//
//   prepare_stories --input shards/ --output-dir data/
//
// The input is read once: stories are cleaned, written one per line, and a bounded sample of them trains the tokenizer.
// Then stories.txt is tokenized. Both on all threads, with results that do not depend on their number. Files get their
// names when all of them are complete.
#include <algorithm>
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
#include <utility>
#include <vector>

#include <storylm/data/cleaning.hpp>
#include <storylm/data/ordered_pipeline.hpp>
#include <storylm/data/stories.hpp>
#include <storylm/data/stories_blocks.hpp>
#include <storylm/data/stories_parallel.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/sentencepiece_encoder.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "program.hpp"

namespace {

using namespace storylm;
using Clock = std::chrono::steady_clock;

struct Flags {
  std::vector<std::filesystem::path> input;
  std::filesystem::path output_dir;
  index_t vocab_size = 5120;
  index_t max_stories = 0;
  bool lowercase = false;
  bool no_byte_fallback = false;
  bool keep_going = false;
  int threads = 0;
  std::uint64_t seed = 1;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// "12.3" for numbers people read.
std::string rounded(double value, int digits = 1) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}
std::string megabytes(std::uint64_t bytes) { return rounded(static_cast<double>(bytes) / 1e6) + " MB"; }

/// Stopped by a signal: nothing has been written, and nothing is lost that cannot be made again.
struct Stopped {};
void check_stop_signal() {
  if (program::stop_signal != 0) throw Stopped{};
}

struct Corpus {
  CleaningCounts cleaned{};
  ReaderCounts read{};
  SentenceSample sample;
  std::uint64_t input_bytes = 0;
  std::uint64_t output_bytes = 0;
  double seconds = 0.0;
};

/// Reads and cleans all stories into `stories`, one per line, on all threads.
void read_corpus(const Flags& flags, detail::AtomicFile& stories, Corpus& corpus) {
  const Clock::time_point start = Clock::now();
  StoryReader reader(flags.input, {.keep_going = flags.keep_going});
  CleanStoriesOptions options{.threads = program::thread_count(flags.threads)};
  if (flags.max_stories > 0) options.max_stories = flags.max_stories;
  if (flags.lowercase) options.finish = [](std::string_view clean) { return lower_case(clean); };
  program::ProgressLine progress;
  clean_stories(reader, corpus.cleaned, options, [&](const CleanStories& block) {
    check_stop_signal();
    for (std::size_t i = 0; i < block.size(); ++i) corpus.sample.add(block[i]);
    stories.write(block.lines());
    if (progress.due()) {
      progress.show("reading: " + std::to_string(corpus.cleaned.kept) + " stories, " + megabytes(reader.bytes_read()) +
                    " of " + megabytes(reader.total_bytes()));
    }
  });
  progress.finish();
  stories.flush();
  for (const std::string& report : reader.reports()) std::cerr << "left out: " << report << '\n';
  expects<FormatError>(corpus.cleaned.kept > 0, "prepare_stories",
                       "there is not one story in the input: ", reader.counts().read, " were read, ",
                       corpus.cleaned.dropped_empty, " of them empty");
  corpus.read = reader.counts();
  corpus.input_bytes = reader.bytes_read();
  corpus.output_bytes = stories.size();
  corpus.seconds = seconds_since(start);
}

/// What was dropped or repaired, and why: one line each, on standard error.
void report_corpus(const Corpus& corpus) {
  const auto line = [](index_t count, std::string_view what) {
    if (count > 0) std::cerr << std::setw(10) << count << "  " << what << '\n';
  };
  const CleaningCounts& cleaned = corpus.cleaned;
  line(cleaned.kept, "stories kept");
  line(cleaned.dropped_empty, "stories dropped: empty");
  line(cleaned.dropped_long_word, "stories dropped: a word of more than 65536 bytes");
  line(corpus.read.without_story, "records dropped: no string \"story\"");
  line(corpus.read.damaged_shards, "shards cut off at a syntax error");
  line(static_cast<index_t>(corpus.read.lost_bytes), "bytes lost after syntax errors");
  line(cleaned.outer_whitespace, "stories repaired: whitespace at the beginning or end");
  line(cleaned.invalid_utf8, "stories repaired: bytes that are not UTF-8 removed");
  line(cleaned.control, "stories repaired: control characters removed");
  line(cleaned.replacement, "stories repaired: U+FFFD removed");
  line(cleaned.invisible, "stories repaired: zero-width characters removed");
  line(cleaned.chat_markers, "stories repaired: chat markers such as <|im_start|> removed");
  line(cleaned.mojibake, "stories repaired: quotation marks and dashes decoded as Windows-1252 put right");
}

/// The tokenizer in the output folder, which must be what the flags ask for; nothing when there is none.
std::optional<SentencePieceTokenizer> existing_tokenizer(const Flags& flags) {
  const std::filesystem::path path = flags.output_dir / "bpe.model";
  if (!std::filesystem::exists(path)) return std::nullopt;
  SentencePieceTokenizer tokenizer = SentencePieceTokenizer::load(path);
  constexpr std::string_view advice = "; delete it to train another, or change the flag";
  expects<ArgumentError>(tokenizer.vocab_size() == flags.vocab_size, "prepare_stories", path, " has ",
                         tokenizer.vocab_size(), " pieces, --vocab-size asks for ", flags.vocab_size, advice);
  expects<ArgumentError>(tokenizer.byte_fallback() != flags.no_byte_fallback, "prepare_stories", path,
                         tokenizer.byte_fallback() ? " has byte fallback, --no-byte-fallback asks for none"
                                                   : " has no byte fallback: --no-byte-fallback is missing",
                         advice);
  if (!std::filesystem::exists(tokenizer_settings_path(path))) {  // a model from elsewhere
    return SentencePieceTokenizer(tokenizer.model_bytes(), flags.lowercase, path.string());
  }
  expects<ArgumentError>(tokenizer.lowercase() == flags.lowercase, "prepare_stories", path,
                         tokenizer.lowercase() ? " is for lower-cased text: --lowercase is missing"
                                               : " is not for lower-cased text, --lowercase asks for it",
                         advice);
  return tokenizer;
}

/// Lines of stories.txt and their tokens.
struct TokenizedBlock {
  StoryBlock lines;
  std::vector<token_t> tokens;
  std::vector<std::size_t> ends;  // of the lines in tokens

  [[nodiscard]] std::size_t bytes() const { return lines.text.size(); }
};

/// Tokenizes the lines of a text file on all threads; what comes out does not depend on their number.
void tokenize(const std::filesystem::path& stories, index_t count, const SentencePieceTokenizer& tokenizer, int threads,
              TokenFileWriter& writer) {
  detail::TextCutter cutter(stories, detail::TextCutter::Form::lines);
  std::vector<SentencePieceEncoder> encoders(static_cast<std::size_t>(threads), SentencePieceEncoder(tokenizer));
  program::ProgressLine progress;
  index_t done = 0;
  bool ended = false;
  const auto read = [&](TokenizedBlock& block) {
    if (std::exchange(ended, true)) return false;
    cutter.next(block.lines);
    ended = block.lines.last;
    return true;
  };
  const auto encode = [&](TokenizedBlock& block, std::size_t thread) {
    block.tokens.clear();
    block.ends.clear();
    for (std::size_t i = 0; i < block.lines.stories.size(); ++i) {
      encoders[thread].append(block.lines[i], block.tokens);
      block.ends.push_back(block.tokens.size());
    }
  };
  const auto write = [&](TokenizedBlock& block) {
    check_stop_signal();
    writer.add(block.tokens, block.ends);
    done += static_cast<index_t>(block.ends.size());
    if (progress.due()) {
      progress.show("tokenizing: " + std::to_string(done) + " of " + std::to_string(count) + " stories");
    }
    return true;
  };
  detail::OrderedPipeline<TokenizedBlock>(threads).run(read, encode, write);
}

int prepare(const Flags& flags) {
  program::ComputeFlags::check_threads(flags.threads);
  expects<ArgumentError>(flags.vocab_size > 0, "prepare_stories", "--vocab-size must be positive: ", flags.vocab_size);
  expects<ArgumentError>(flags.max_stories >= 0, "prepare_stories",
                         "--max-stories must not be negative: ", flags.max_stories);
  std::error_code error;
  std::filesystem::create_directories(flags.output_dir, error);
  expects<ArgumentError>(std::filesystem::is_directory(flags.output_dir), "prepare_stories", "cannot make the folder ",
                         flags.output_dir, ": ", error ? error.message() : std::string("it is a file"));
  std::optional<SentencePieceTokenizer> tokenizer = existing_tokenizer(flags);
  const SentencePieceTrainOptions train_options{
      .vocab_size = flags.vocab_size, .byte_fallback = !flags.no_byte_fallback, .lowercase = flags.lowercase};
  if (!tokenizer.has_value()) check_vocab_size(train_options);

  detail::AtomicFile stories(flags.output_dir / "stories.txt");
  Corpus corpus{.sample = SentenceSample(100'000, flags.seed)};
  read_corpus(flags, stories, corpus);
  report_corpus(corpus);
  check_stop_signal();

  Clock::time_point start = Clock::now();
  const bool trained = !tokenizer.has_value();
  if (trained) {
    std::cerr << "training the tokenizer on " << corpus.sample.sentences().size() << " of " << corpus.sample.seen()
              << " pieces of text\n";
    tokenizer = train_sentencepiece(corpus.sample.sentences(), train_options);
    check_stop_signal();
  }
  corpus.sample = SentenceSample(1);  // gives its memory back
  const double training_seconds = seconds_since(start);

  start = Clock::now();
  const int threads = program::thread_count(flags.threads);
  TokenFileWriter writer(flags.output_dir / "stories.tokens", {.vocab_size = tokenizer->vocab_size(),
                                                               .tokenizer_hash = tokenizer->hash(),
                                                               .lowercase = tokenizer->lowercase()});
  tokenize(stories.temporary(), corpus.cleaned.kept, *tokenizer, threads, writer);
  const double tokenizing_seconds = seconds_since(start);

  detail::AtomicFile vocab(flags.output_dir / "bpe.vocab");
  vocab.write(tokenizer->vocab_text());
  detail::AtomicFile settings(flags.output_dir / "bpe.settings.json");
  settings.write(to_json(tokenizer->settings()));
  detail::AtomicFile model(flags.output_dir / "bpe.model");
  model.write(tokenizer->model_bytes());
  // The tokens come last: where they are, the rest is.
  detail::AtomicFile::publish_all({&stories, &vocab, &settings, &model, &writer.finish()});

  const auto rate = [](std::uint64_t bytes, double seconds) {
    return rounded(static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-9)) + " MB/s";
  };
  std::cout << "stories     " << corpus.cleaned.kept << ", " << megabytes(corpus.output_bytes) << " ("
            << megabytes(corpus.input_bytes) << " read at " << rate(corpus.input_bytes, corpus.seconds) << ")\n"
            << "tokenizer   " << tokenizer->vocab_size() << " pieces, "
            << (trained ? "trained in " + rounded(training_seconds) + " s" : std::string("the one that was there"))
            << '\n'
            << "tokens      " << writer.tokens() << ", "
            << rounded(static_cast<double>(writer.tokens()) / static_cast<double>(corpus.cleaned.kept))
            << " a story (tokenized at " << rate(corpus.output_bytes, tokenizing_seconds) << " with " << threads
            << (threads == 1 ? " thread" : " threads") << ")\n"
            << "peak memory " << megabytes(program::peak_memory()) << '\n'
            << "written to  " << flags.output_dir.string() << '\n';
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Cleans and tokenizes stories: a folder of .json shards, single shards, or .txt files",
               "prepare_stories");
  app.add_option("--input", flags.input,
                 "folders of .json shards, .json shards, or .txt files (stories separated by <|endoftext|> or, without "
                 "that, one per line)")
      ->required();
  app.add_option(
         "--output-dir", flags.output_dir,
         "folder for stories.txt, bpe.model, bpe.vocab, bpe.settings.json and stories.tokens; a bpe.model that is "
         "there is used")
      ->required();
  app.add_option("--vocab-size", flags.vocab_size, "pieces of the tokenizer")->capture_default_str();
  app.add_option("--max-stories", flags.max_stories, "stop after this many stories; 0: all")->capture_default_str();
  app.add_flag("--lowercase", flags.lowercase, "lower-case the stories, and later the prompts (default: off)");
  app.add_flag("--no-byte-fallback", flags.no_byte_fallback,
               "unknown characters become UNK instead of being spelt in bytes (default: off)");
  app.add_flag("--keep-going", flags.keep_going,
               "skip and count records without a story, and the rest of a shard after a syntax error (default: off)");
  program::ComputeFlags::add_threads_flag(app, flags.threads);
  app.add_option("--seed", flags.seed, "of the sample of text that trains the tokenizer")->capture_default_str();
  program::catch_stop_signals();
  return program::run(app, argc, argv, [&flags] {
    try {
      return prepare(flags);
    } catch (const Stopped&) {
      std::cerr << "prepare_stories: stopped; nothing was written\n";
      return program::stopped_exit_code();
    }
  });
}
