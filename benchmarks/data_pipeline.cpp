// SPDX-License-Identifier: MIT
// How fast stories become tokens, and what a batch costs: beside Boost.JSON and libsentencepiece in plain loops, on the
// same bytes with as many threads, in turns.
//
//   data_pipeline --threads 1,2                                          stories of the demo's grammar
//   data_pipeline --input shards/ --model data/bpe.model --json out.json  one's own
//
// Ratios are ours / theirs. Files are in the page cache, but for the part on cold files.
// LINK: io sentencepiece
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parse.hpp>
#include <fcntl.h>

#include <storylm/data/loader.hpp>
#include <storylm/data/stories_parallel.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/text/sentencepiece_encoder.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "../examples/program.hpp"
#include "../examples/story_grammar/shards.hpp"

namespace {

using namespace storylm;
using Clock = std::chrono::steady_clock;
using Paths = std::vector<std::filesystem::path>;

struct Flags {
  Paths input;
  std::string model;
  std::size_t stories = 20'000;
  std::vector<int> threads{1, program::thread_count(0)};
  int rounds = 5;
  index_t step_stories = 8;
  double step_seconds = 0.8;
  index_t cold_megabytes = 256;
  std::string json;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Runs work(i) for i in [0, count) on several threads; who is free takes the next.
void share(int threads, std::size_t count, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  const auto loop = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(loop);
  loop();
  for (std::thread& thread : others) thread.join();
}

/// What all threads of this process have computed, in seconds.
double processor_seconds() {
  struct timespec time {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Two ways to do the same, in turns: MB/s of each, and the ratio, by time and by processor time, which other programs
/// on the machine disturb less. Medians over the rounds.
class Comparison {
 public:
  struct Row {
    std::string what;
    int threads;
    double theirs;
    double ours;
    double ratio;
    double processor_ratio;
  };

  explicit Comparison(int rounds) : rounds_(rounds) {
    std::cout << std::left << std::setw(52) << "" << std::right << std::setw(8) << "threads" << std::setw(10)
              << "theirs" << std::setw(10) << "ours" << std::setw(8) << "ratio" << std::setw(21)
              << "by processor time\n";
  }

  /// `theirs` and `ours` return how many bytes of input they dealt with.
  void run(const std::string& what, int threads, const std::function<std::size_t()>& theirs,
           const std::function<std::size_t()>& ours) {
    std::vector<double> their_speeds;
    std::vector<double> our_speeds;
    std::vector<double> ratios;
    std::vector<double> processor_ratios;
    for (int round = 0; round < rounds_; ++round) {
      const Speed their = speed(theirs);
      const Speed our = speed(ours);
      their_speeds.push_back(their.by_time);
      our_speeds.push_back(our.by_time);
      ratios.push_back(our.by_time / their.by_time);
      processor_ratios.push_back(our.by_processor_time / their.by_processor_time);
    }
    rows_.push_back(
        {what, threads, median(their_speeds), median(our_speeds), median(ratios), median(processor_ratios)});
    const Row& row = rows_.back();
    std::cout << std::left << std::setw(52) << what << std::right << std::setw(8) << threads << std::fixed
              << std::setprecision(1) << std::setw(10) << row.theirs << std::setw(10) << row.ours
              << std::setprecision(2) << std::setw(8) << row.ratio << std::setw(20) << row.processor_ratio << std::endl;
  }
  [[nodiscard]] const std::vector<Row>& rows() const noexcept { return rows_; }

 private:
  struct Speed {  // MB/s
    double by_time;
    double by_processor_time;
  };
  static Speed speed(const std::function<std::size_t()>& f) {
    const Clock::time_point start = Clock::now();
    const double processor_start = processor_seconds();
    const double megabytes = static_cast<double>(f()) / 1e6;
    return {megabytes / seconds_since(start), megabytes / (processor_seconds() - processor_start)};
  }
  int rounds_;
  std::vector<Row> rows_;
};

void compare_parsing(const Paths& shards, const Flags& flags, Comparison& comparison) {
  std::vector<std::string> files;
  std::size_t bytes = 0;
  for (const std::filesystem::path& shard : shards) {
    files.push_back(detail::read_file(shard, "data_pipeline", std::uint64_t{1} << 40U));
    bytes += files.back().size();
  }
  for (const int threads : flags.threads) {
    const auto boost_json = [&] {
      share(threads, files.size(), [&](std::size_t i) {
        boost::json::monotonic_resource memory;  // the fastest that Boost.JSON's documentation knows
        (void)boost::json::parse(files[i], &memory);
      });
      return bytes;
    };
    const auto parse = [&] {  // from the file to raw stories
      struct Unit {
        StoryBlock block;
        [[nodiscard]] std::size_t bytes() const { return block.text.size(); }
      };
      StoryReader reader(shards);
      std::vector<detail::BlockStories> parsers(static_cast<std::size_t>(threads));
      detail::OrderedPipeline<Unit>(threads).run(
          [&](Unit& unit) { return reader.next_block(unit.block); },
          [&](Unit& unit, std::size_t thread) {
            std::string_view story;
            detail::StoryProblem problem;
            std::size_t i = 0;
            while (parsers[thread].next(unit.block, i, story, problem) == detail::BlockStories::Next::story) continue;
          },
          [](Unit&) { return true; });
      return bytes;
    };
    const auto clean = [&] {
      StoryReader reader(shards);
      CleaningCounts counts;
      clean_stories(reader, counts, {.threads = threads}, [](const CleanStories&) {});
      return bytes;
    };
    comparison.run("boost::json::parse : read, cut, parse", threads, boost_json, parse);
    comparison.run("boost::json::parse : read, cut, parse, clean", threads, boost_json, clean);
  }
}

void compare_encoding(const std::vector<std::string>& stories, const SentencePieceTokenizer& tokenizer,
                      const Flags& flags, Comparison& comparison) {
  sentencepiece::SentencePieceProcessor processor;
  (void)processor.LoadFromSerializedProto(tokenizer.model_bytes());
  std::size_t bytes = 0;
  for (const std::string& story : stories) bytes += story.size();
  constexpr std::size_t at_once = 64;
  for (const int threads : flags.threads) {
    const auto encode_as_ids = [&] {  // every 16th story: it takes long
      std::atomic<std::size_t> done = 0;
      share(threads, stories.size() / 16, [&](std::size_t i) {
        (void)processor.EncodeAsIds(stories[16 * i]);
        done += stories[16 * i].size();
      });
      return done.load();
    };
    const auto encode = [&] {  // encoders that have seen nothing yet
      std::vector<SentencePieceEncoder> encoders(static_cast<std::size_t>(threads), SentencePieceEncoder(tokenizer));
      std::atomic<std::size_t> next = 0;
      share(threads, static_cast<std::size_t>(threads), [&](std::size_t thread) {
        std::vector<token_t> tokens;
        for (std::size_t first = next.fetch_add(at_once); first < stories.size(); first = next.fetch_add(at_once)) {
          tokens.clear();
          for (std::size_t i = first; i < std::min(first + at_once, stories.size()); ++i) {
            encoders[thread].append(stories[i], tokens);
          }
        }
      });
      return bytes;
    };
    comparison.run("EncodeAsIds : SentencePieceEncoder", threads, encode_as_ids, encode);
  }
}

/// A token file without a prefetch().
struct WithoutPrefetch {
  TokenFile file;
  [[nodiscard]] index_t size() const { return file.size(); }
  [[nodiscard]] std::uint64_t fingerprint() const { return file.fingerprint(); }
  [[nodiscard]] index_t length(index_t story) const { return file.length(story); }
  void read(index_t story, std::span<token_t> out) const { file.read(story, out); }
};

/// As many stories as TinyStories has, all alike.
struct ManyStories {
  [[nodiscard]] index_t size() const { return 2'100'000; }
  [[nodiscard]] std::uint64_t fingerprint() const { return 1; }
  [[nodiscard]] index_t length(index_t) const { return 200; }
  void read(index_t, std::span<token_t> out) const { std::fill(out.begin(), out.end(), 7); }
};

struct BatchTimes {
  double mean = 0.0;
  double p99 = 0.0;
  double most = 0.0;
};

BatchTimes summary_of(std::vector<double> times) {
  BatchTimes result;
  for (const double time : times) result.mean += time / static_cast<double>(times.size());
  std::sort(times.begin(), times.end());
  result.p99 = times[times.size() * 99 / 100];
  result.most = times.back();
  return result;
}

template <class Source>
BatchTimes time_batches(const Source& source, const Flags& flags, index_t batches, std::chrono::microseconds step) {
  StoryLoader loader(source, {.batch_size = flags.step_stories});
  std::vector<double> times;
  (void)loader.next();  // the first one no loader can have ready
  for (index_t i = 0; i < batches; ++i) {
    std::this_thread::sleep_for(step);
    const Clock::time_point start = Clock::now();
    (void)loader.next();
    times.push_back(seconds_since(start));
  }
  return summary_of(std::move(times));
}

/// First batches of epochs of two million stories.
BatchTimes time_epochs(const Flags& flags) {
  StoryLoader loader(ManyStories{}, {.batch_size = flags.step_stories});
  std::vector<double> times;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    decltype(loader)::visit_state(loader, [&](std::string_view name, auto& value) {
      if (name == "epoch") value = static_cast<std::remove_reference_t<decltype(value)>>(epoch);
      if (name == "index") value = 0;
    });
    const Clock::time_point start = Clock::now();
    (void)loader.next();
    times.push_back(seconds_since(start));
  }
  return summary_of(std::move(times));
}

/// Has the operating system forget what it holds of a file that nobody has mapped.
void evict(const std::filesystem::path& path) {
  const detail::InputFile file(path, "data_pipeline");
  ::fsync(file.descriptor());
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
}

struct LoaderRow {
  std::string what;
  BatchTimes times;
};

std::vector<LoaderRow> time_loader(const std::filesystem::path& tokens, const std::filesystem::path& large,
                                   const Flags& flags) {
  constexpr auto pause = std::chrono::milliseconds(5);  // instead of a step
  std::vector<LoaderRow> rows;
  std::cout << "\nmicroseconds a batch of " << flags.step_stories << " stories" << std::setw(16) << "mean"
            << std::setw(10) << "99 %" << std::setw(10) << "most" << std::setw(20) << "mean / step\n";
  const auto row = [&](const std::string& what, const BatchTimes& times) {
    rows.push_back({what, times});
    std::cout << std::left << std::setw(38) << what << std::right << std::fixed << std::setprecision(1) << std::setw(10)
              << 1e6 * times.mean << std::setw(10) << 1e6 * times.p99 << std::setw(10) << 1e6 * times.most
              << std::setprecision(5) << std::setw(17) << 100.0 * times.mean / flags.step_seconds << " %" << std::endl;
  };
  row("in memory", time_batches(TokenFile(tokens), flags, 4000, {}));
  row("first batch of 2.1 million stories", time_epochs(flags));
  if (flags.cold_megabytes > 0) {
    evict(large);
    row("cold file, prefetched", time_batches(TokenFile(large), flags, 100, pause));
    evict(large);
    row("cold file, not prefetched", time_batches(WithoutPrefetch{TokenFile(large)}, flags, 100, pause));
  }
  return rows;
}

std::string to_json(const Comparison& comparison, const std::vector<LoaderRow>& loader, const Flags& flags) {
  std::ostringstream text;
  text << "{\n  \"rounds\": " << flags.rounds << ",\n  \"comparisons\": [";
  std::string_view separator = "\n";
  for (const Comparison::Row& row : comparison.rows()) {
    text << separator << "    {\"what\": \"" << row.what << "\", \"threads\": " << row.threads
         << ", \"theirs_mb_s\": " << row.theirs << ", \"ours_mb_s\": " << row.ours << ", \"ratio\": " << row.ratio
         << ", \"processor_time_ratio\": " << row.processor_ratio << '}';
    separator = ",\n";
  }
  text << "\n  ],\n  \"step_seconds\": " << flags.step_seconds << ",\n  \"step_stories\": " << flags.step_stories
       << ",\n  \"loader\": [";
  separator = "\n";
  for (const LoaderRow& row : loader) {
    text << separator << "    {\"what\": \"" << row.what << "\", \"mean_s\": " << row.times.mean
         << ", \"p99_s\": " << row.times.p99 << ", \"most_s\": " << row.times.most
         << ", \"share_of_step\": " << row.times.mean / flags.step_seconds << '}';
    separator = ",\n";
  }
  text << "\n  ]\n}\n";
  return text.str();
}

/// A folder that goes when the program does.
struct WorkFolder {
  std::filesystem::path path;
  WorkFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "data_pipeline.XXXXXX").string();
    expects<WriteError>(::mkdtemp(name.data()) != nullptr, "data_pipeline", "cannot make a folder like ", name);
    path = name;
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  ~WorkFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

int run(Flags flags) {
  expects<ArgumentError>(flags.rounds > 0 && flags.step_stories > 0 && flags.step_seconds > 0, "data_pipeline",
                         "--rounds, --step-stories and --step-seconds must be positive");
  expects<ArgumentError>(flags.cold_megabytes >= 0, "data_pipeline", "--cold-megabytes must not be negative");
  for (const int threads : flags.threads) {
    program::ComputeFlags::check_threads(threads);
    expects<ArgumentError>(threads > 0, "data_pipeline", "--threads are numbers from 1 on");
  }
  const WorkFolder work;
  if (flags.input.empty()) {
    story_grammar::write_shards(
        {.output_dir = work.path / "shards", .count = flags.stories, .shard_size = flags.stories / 8 + 1});
    flags.input = {work.path / "shards"};
  }
  Paths shards;
  for (const std::filesystem::path& input : flags.input) {
    if (!std::filesystem::is_directory(input))
      shards.push_back(input);
    else
      for (const auto& entry : std::filesystem::directory_iterator(input)) shards.push_back(entry.path());
  }
  std::erase_if(shards, [](const std::filesystem::path& path) {
    return path.extension() != ".json" || path.string().ends_with(".settings.json");
  });
  std::sort(shards.begin(), shards.end());

  Comparison comparison(flags.rounds);
  compare_parsing(shards, flags, comparison);

  std::vector<std::string> stories;
  SentenceSample sample(20'000);
  StoryReader reader(shards);
  CleaningCounts counts;
  clean_stories(reader, counts, {}, [&](const CleanStories& block) {
    for (std::size_t i = 0; i < block.size(); ++i) {
      stories.emplace_back(block[i]);
      sample.add(block[i]);
    }
  });
  const SentencePieceTokenizer tokenizer = flags.model.empty()
                                               ? train_sentencepiece(sample.sentences(), {.vocab_size = 1000})
                                               : SentencePieceTokenizer::load(flags.model);
  compare_encoding(stories, tokenizer, flags, comparison);

  // The second file is so large that what the operating system reads on its own around a story is a small part of it.
  const TokenFileInfo info{.vocab_size = tokenizer.vocab_size(), .tokenizer_hash = tokenizer.hash()};
  TokenFileWriter writer(work.path / "stories.tokens", info);
  TokenFileWriter large(work.path / "large.tokens", info);
  std::vector<token_t> tokens;
  std::vector<std::size_t> ends;
  SentencePieceEncoder encoder(tokenizer);
  for (const std::string& story : stories) {
    encoder.append(story, tokens);
    ends.push_back(tokens.size());
  }
  writer.add(tokens, ends);
  writer.publish();
  while (2 * large.tokens() < flags.cold_megabytes * 1'000'000) large.add(tokens, ends);
  large.publish();
  const std::vector<LoaderRow> loader = time_loader(work.path / "stories.tokens", work.path / "large.tokens", flags);
  if (!flags.json.empty()) detail::write_file(flags.json, to_json(comparison, loader, flags));
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Times reading, tokenizing and loading of stories", "data_pipeline");
  app.add_option("--input", flags.input, "folders of .json shards, or .json shards; without it, stories of a grammar");
  app.add_option("--stories", flags.stories, "of the grammar")->capture_default_str();
  app.add_option("--model", flags.model, "a SentencePiece model; without it, one is trained");
  app.add_option("--threads", flags.threads, "numbers of threads")->delimiter(',')->capture_default_str();
  app.add_option("--rounds", flags.rounds, "of each measurement; the median counts")->capture_default_str();
  app.add_option("--step-stories", flags.step_stories, "stories in a training step")->capture_default_str();
  app.add_option("--step-seconds", flags.step_seconds, "what a training step takes")->capture_default_str();
  app.add_option("--cold-megabytes", flags.cold_megabytes, "size of the file for reading from the disk; 0: none")
      ->capture_default_str();
  app.add_option("--json", flags.json, "file for the figures");
  return program::run(app, argc, argv, [&flags] { return run(flags); });
}
