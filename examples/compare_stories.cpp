// SPDX-License-Identifier: MIT
// LINK: io sentencepiece cuda
// Stories of a checkpoint at the report's settings, and of other models, judged by one language model: a table.
//
//   compare_stories --checkpoint-path run/checkpoint_best.safetensors --baseline gpt2-xl --judge Starling-LM-7B-alpha
//                   --gen-quantity 100 --output-dir comparison
//
// All stories are written first, then all are judged: writer and judge are never in memory together. Each row is kept
// when it is done, so that the same command goes on after an interruption.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/evaluate/judge_policy.hpp>
#include <storylm/evaluate/summary.hpp>
#include <storylm/io/json.hpp>
#include <storylm/ops/sample.hpp>
#include <storylm/train/progress.hpp>
#include <storylm/version.hpp>

#include "comparison.hpp"
#include "comparison_files.hpp"
#include "comparison_flags.hpp"
#include "comparison_jobs.hpp"
#include "comparison_page.hpp"
#include "comparison_table.hpp"
#include "model_source.hpp"
#include "program.hpp"
#include "story_text.hpp"

namespace {

using namespace storylm;
using Clock = std::chrono::steady_clock;

using Flags = program::ComparisonFlags;

/// What is to be known of a model before it is loaded.
struct Model {
  std::filesystem::path path;
  std::string name;
  program::ModelIdentity identity;
  std::string tokenizer_hash;
  bool adds_bos = false;
  token_t bos = -1;
  index_t max_len = 0;
  std::string prompt;       ///< that it goes on from
  SamplerOptions sampler;   ///< as its folder has it, where it is a baseline
  std::string unsupported;  ///< what else its folder says of sampling: names, with commas
};

/// The last part of a path, with the folder before it where it is a file: "gpt2-xl", "run/checkpoint_best.safetensors".
std::string model_name(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path);
  if (std::filesystem::is_directory(whole)) return program::printable(whole.filename().string());
  return program::printable((whole.parent_path().filename() / whole.filename()).string());
}

/// How transformers samples when do_sample is all that it is told, unless generation_config.json says otherwise:
/// softmax, temperature 1, the 50 most probable tokens.
SamplerOptions baseline_sampler(const Flags& flags, const program::ModelSource& source) {
  io::GenerationConfig said;
  if (const io::HuggingFaceFolder* folder = source.folder()) said = folder->generation();
  return {.temperature = flags.baseline_temperature.value_or(said.temperature.value_or(1.0)),
          .top_k = flags.baseline_top_k.value_or(said.top_k.value_or(50)),
          .top_p = flags.baseline_top_p.value_or(said.top_p.value_or(1.0)),
          .min_p = said.min_p.value_or(0.0),
          .repetition_penalty = said.repetition_penalty.value_or(1.0)};
}

/// What a folder says of sampling and is not done: names, with commas.
std::string unsupported_sampling(const program::ModelSource& source) {
  std::string names;
  if (const io::HuggingFaceFolder* folder = source.folder())
    for (const std::string& name : folder->generation().unsupported) names += (names.empty() ? "" : ", ") + name;
  return names;
}

Model examine(const Flags& flags, const program::ModelSource& source, const LoadedTokenizer& loaded) {
  return {.path = source.path(),
          .name = model_name(source.path()),
          .identity = program::model_identity(source.path()),
          .tokenizer_hash = detail::hash_text(loaded.tokenizer.hash()),
          .adds_bos = loaded.adds_bos,
          .bos = loaded.tokenizer.bos(),
          .max_len = source.config().max_len,
          .prompt = flags.prompt,
          .sampler = baseline_sampler(flags, source),
          .unsupported = unsupported_sampling(source)};
}
Model examine_judge(const Flags& flags) {
  const program::ModelSource source(flags.judge);
  return examine(flags, source, source.tokenizer(flags.judge_tokenizer, "--judge-tokenizer-path"));
}
/// Where a space at the end of the prompt is a token of its own, which the model expects to come with the next word, it
/// goes on from the prompt without: the stories it was trained on have no such token there.
/// @throws ArgumentError when the prompt leaves no room for a story
Model examine_writer(const Flags& flags, const std::filesystem::path& path, const std::filesystem::path& tokenizer,
                     std::string_view tokenizer_flag, index_t max_tokens) {
  using Text = program::StoryText<AnyTokenizer>;
  const program::ModelSource source(path);
  const LoadedTokenizer loaded = source.tokenizer(tokenizer, tokenizer_flag);
  Model model = examine(flags, source, loaded);
  if (Text(loaded.tokenizer, flags.prompt, loaded.adds_bos).ends_in_space_token())
    model.prompt.erase(model.prompt.find_last_not_of(" \t") + 1);
  const auto tokens = Text(loaded.tokenizer, model.prompt, loaded.adds_bos).prompt_ids().size();
  const index_t most = max_tokens == 0 ? model.max_len : std::min(max_tokens, model.max_len);
  expects<ArgumentError>(static_cast<index_t>(tokens) < most, "compare_stories", "the prompt has ", tokens,
                         " tokens, a story of ", model.name, " may have ", most);
  return model;
}

/// A comparison under way.
class Comparing {
 public:
  explicit Comparing(const Flags& flags)
      : flags_(flags), judge_compute_(flags.judge_compute()), files_(flags.output, flags.redo) {
    models_.push_back(examine_writer(flags, flags.checkpoint, flags.tokenizer, "--tokenizer-path", flags.max_tokens));
    max_tokens_ = flags.max_tokens != 0 ? flags.max_tokens : models_[0].max_len;
    for (const auto& baseline : flags.baselines)
      models_.push_back(examine_writer(flags, baseline, {}, {}, max_tokens_));
    judge_ = examine_judge(flags);
    policy_ = make_policy();
    plan();
  }

  /// Writes and judges what is not done yet. False when a signal stopped it.
  bool work() {
    std::size_t kept_stories = 0;
    std::size_t kept_scores = 0;
    for (Row& row : rows_) {
      if (row.plan.same_as) continue;
      row.key = written_key(row);
      if (auto found = files_.written(row.plan.file, row.key)) {
        row.written = std::move(*found);
        row.scored = files_.scored(row.plan.file, scored_key(row));
        ++kept_stories;
        kept_scores += row.scored ? 1 : 0;
      }
    }
    if (kept_stories > 0) {
      std::cerr << "taken up from " << flags_.output.string() << ": the stories of " << kept_stories << " of "
                << distinct_ << " rows, the scores of " << kept_scores << std::endl;
    }
    // What is to be done is known before anything is, for the remaining time.
    for (Row& row : rows_) {
      if (row.plan.same_as) continue;
      if (!row.written) {
        row.writing = schedule_.add(program::ComparisonSchedule::Kind::write, models_[row.plan.writer].identity.bytes,
                                    flags_.quantity);
      }
      if (!row.scored)
        row.judging = schedule_.add(program::ComparisonSchedule::Kind::judge, judge_.identity.bytes, flags_.quantity);
    }
    for (std::size_t writer = 0; writer < models_.size(); ++writer)
      if (!write(writer)) return false;
    return judge();
  }

  /// Where rows and table are.
  [[nodiscard]] const program::RowFiles& files() const noexcept { return files_; }
  /// The table with all that belongs to it. After work().
  [[nodiscard]] program::Comparison result() const {
    program::Comparison all{.prompt = flags_.prompt,
                            .seed = flags_.seed,
                            .quantity = flags_.quantity,
                            .max_tokens = max_tokens_,
                            .judge = judge_.name + " in " + judge_compute_.dtype,
                            .judge_settings = judge_settings(),
                            .policy = policy_words()};
    all.judge_settings["path"] = program::printable(flags_.judge.string());
    for (const Row& row : rows_) {
      const Row& source = row.plan.same_as ? rows_[*row.plan.same_as] : row;
      program::TableRow shown{.model = row.plan.model,
                              .sampling = program::sampler_text(row.plan.sampler),
                              .sampler = sampler_json(row.plan.sampler),
                              .prompt = models_[row.plan.writer].prompt,
                              .unsupported = row.plan.writer > 0 ? models_[row.plan.writer].unsupported : "",
                              .same_as = row.plan.same_as,
                              .stories_file = "stories/" + files_.stories_path(row.plan.file).filename().string(),
                              .max_tokens = most_tokens(models_[row.plan.writer]),
                              .drawn = source.written->drawn,
                              .seconds = source.written->seconds,
                              .summary = evaluate::summarise(source.scored->scores),
                              .example = source.written->stories.front()};
      const auto count = static_cast<double>(source.written->stories.size());
      for (std::size_t i = 0; i < source.written->stories.size(); ++i) {
        shown.ended += source.written->ended[i] ? 1 : 0;
        shown.mean_tokens += static_cast<double>(source.written->tokens[i]) / count;
        shown.mean_characters += static_cast<double>(program::count_characters(source.written->stories[i])) / count;
      }
      all.rows.push_back(std::move(shown));
    }
    return all;
  }

 private:
  struct Row {
    program::ComparisonRow plan;
    boost::json::object key{};  // of its stories
    std::optional<program::WrittenRow> written{};
    std::optional<program::ScoredRow> scored{};
    std::size_t writing = 0;  // jobs of the schedule
    std::size_t judging = 0;
  };

  [[nodiscard]] evaluate::JudgePolicy make_policy() const {
    evaluate::JudgePolicy policy{.context = flags_.context,
                                 .stride = flags_.stride,
                                 .bos = flags_.bos == "always" || (flags_.bos == "auto" && judge_.adds_bos),
                                 .bos_id = judge_.bos};
    return evaluate::resolved(policy, judge_.max_len);
  }
  [[nodiscard]] std::string policy_words() const {
    return "Stories are judged as they stand in their files, prompt included, without whitespace at their ends, "
           "through the judge's own tokenizer; " +
           evaluate::words(policy_);
  }

  void plan() {
    std::vector<SamplingPolicy> policies;
    for (const std::string& name : flags_.sampling) policies.push_back(sampling_policy(name));
    std::vector<std::string> names;
    std::vector<SamplerOptions> samplers;
    for (std::size_t i = 1; i < models_.size(); ++i) {
      names.push_back(models_[i].name);
      samplers.push_back(models_[i].sampler);
      ops::expects_sampler_options(samplers.back());
      if (!models_[i].unsupported.empty())
        std::cerr << "warning: " << models_[i].name << ": " << models_[i].unsupported
                  << " of its generation_config.json: not followed" << std::endl;
    }
    for (auto& row : program::comparison_rows(models_[0].name, policies, names, samplers, flags_.seed)) {
      distinct_ += row.same_as ? 0 : 1;
      rows_.push_back({.plan = std::move(row)});
    }
  }

  static boost::json::object sampler_json(const SamplerOptions& sampler) {
    boost::json::object result;
    result["policy"] = program::policy_name(sampler.policy);
    result["temperature"] = sampler.temperature;
    result["top_k"] = sampler.top_k;
    result["top_p"] = sampler.top_p;
    result["min_p"] = sampler.min_p;
    result["repetition_penalty"] = sampler.repetition_penalty;
    return result;
  }
  static void add_compute(boost::json::object& key, const program::ComputeFlags& compute) {
    key["library"] = std::string(version);
    key["device"] = compute.on_cuda() ? "cuda" : "cpu";
    key["dtype"] = compute.dtype;
    key["tf32"] = compute.tf32;
    key["tune_matmul"] = compute.tune_matmul;
  }
  /// All that a row's stories depend on; neither batch size nor threads.
  [[nodiscard]] boost::json::object written_key(const Row& row) const {
    const Model& model = models_[row.plan.writer];
    boost::json::object key;
    key["model"] = model.identity.hash;
    key["tokenizer"] = model.tokenizer_hash;
    key["bos"] = model.adds_bos;
    key["prompt"] = model.prompt;
    key["seed"] = flags_.seed;
    key["stories"] = flags_.quantity;
    key["max_tokens"] = most_tokens(model);
    for (const auto& field : sampler_json(row.plan.sampler)) key[field.key()] = field.value();
    if (row.plan.sampler.min_p == 0.0) key.erase("min_p");  // rows that are kept from before it was read say the same
    add_compute(key, flags_.compute);
    return key;
  }
  /// All that its scores depend on.
  [[nodiscard]] boost::json::object scored_key(const Row& row) const {
    boost::json::object key = judge_settings();
    key["stories"] = detail::hash_text(detail::hash64(program::RowFiles::join(row.written->stories)));
    return key;
  }
  [[nodiscard]] boost::json::object judge_settings() const {
    boost::json::object key;
    key["judge"] = judge_.identity.hash;
    key["tokenizer"] = judge_.tokenizer_hash;
    key["bos"] = policy_.bos;
    key["bos_id"] = policy_.bos_id;
    key["context"] = policy_.context;
    key["stride"] = policy_.stride;
    add_compute(key, judge_compute_);
    return key;
  }
  [[nodiscard]] index_t most_tokens(const Model& model) const { return std::min(max_tokens_, model.max_len); }

  /// The rows of one writer.
  bool write(std::size_t writer) {
    const Model& model = models_[writer];
    program::WritingJob job{.model = model.path,
                            .identity = model.identity.hash,
                            .tokenizer = writer == 0 ? flags_.tokenizer : std::filesystem::path(),
                            .prompt = model.prompt,
                            .quantity = flags_.quantity,
                            .max_tokens = most_tokens(model),
                            .batch_size = flags_.batch_size,
                            .compute = flags_.compute};
    std::vector<Row*> rows;
    for (Row& row : rows_) {
      if (row.plan.same_as || row.written || row.plan.writer != writer) continue;
      rows.push_back(&row);
      job.samplers.push_back(row.plan.sampler);
    }
    if (rows.empty()) return true;
    std::cerr << "loading " << model.name << " to write " << rows.size() << (rows.size() == 1 ? " row" : " rows")
              << std::endl;
    start_row();
    return program::write_rows(
        job, [&](const program::RowProgress& progress) { show("writing ", *rows[progress.row], progress, true); },
        [&](std::size_t i, const program::WrittenRow& written) {
          files_.keep(rows[i]->plan.file, rows[i]->key, written);
          rows[i]->written = written;
          finish_row("written: ", *rows[i], rows[i]->writing, written.drawn, written.seconds);
        });
  }
  /// All rows.
  bool judge() {
    if (program::stop_signal != 0) return false;
    program::JudgingJob job{.model = judge_.path,
                            .identity = judge_.identity.hash,
                            .tokenizer = flags_.judge_tokenizer,
                            .policy = policy_,
                            .compute = judge_compute_};
    std::vector<Row*> rows;
    for (Row& row : rows_) {
      if (row.plan.same_as || row.scored) continue;
      rows.push_back(&row);
      job.files.push_back(files_.stories_path(row.plan.file));
    }
    if (rows.empty()) return true;
    std::cerr << "loading " << judge_.name << " to judge " << rows.size() << (rows.size() == 1 ? " row" : " rows")
              << std::endl;
    start_row();
    return program::judge_rows(
        job, [&](const program::RowProgress& progress) { show("judging ", *rows[progress.row], progress, false); },
        [&](std::size_t i, const program::ScoredRow& scored) {
          Row& row = *rows[i];
          expects<FormatError>(scored.scores.size() == row.written->stories.size(), "compare_stories",
                               files_.stories_path(row.plan.file), ": has ", scored.scores.size(), " stories, but ",
                               row.written->stories.size(), " were written");
          files_.keep(row.plan.file, scored_key(row), scored);
          row.scored = scored;
          finish_row("judged: ", row, row.judging, evaluate::summarise(scored.scores).tokens, scored.seconds);
        });
  }

  void start_row() { row_start_.reset(); }
  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  [[nodiscard]] std::string label(const Row& row) const {
    return "row " + std::to_string(&row - rows_.data() + 1) + " of " + std::to_string(rows_.size()) + ", " +
           row.plan.model + ", " + program::sampler_text(row.plan.sampler);
  }
  [[nodiscard]] std::string left() const {
    const auto seconds = schedule_.remaining();
    return seconds.value_or(0.0) > 0.0 ? ", " + train::duration_text(*seconds) + " left for all rows" : "";
  }
  void show(const char* what, const Row& row, const program::RowProgress& progress, bool writing) {
    if (!row_start_) row_start_ = Clock::now();  // loading is over
    if (!line_.due()) return;
    const double seconds = seconds_since(*row_start_);
    if (seconds < 0.5) return;  // the first tokens say nothing about speed
    schedule_.at(writing ? row.writing : row.judging, progress.stories, seconds);
    std::ostringstream line;
    line << what << label(row) << ": " << std::fixed << std::setprecision(0) << std::floor(progress.stories) << " of "
         << flags_.quantity << " stories, " << static_cast<double>(progress.tokens) / std::max(seconds, 1e-9)
         << " tokens/s" << left();
    line_.show(line.str());
  }
  void finish_row(const char* what, const Row& row, std::size_t job, index_t tokens, double seconds) {
    schedule_.at(job, static_cast<double>(flags_.quantity), seconds);
    line_.finish();
    std::ostringstream line;
    line << what << label(row) << ": " << flags_.quantity << " stories, " << tokens << " tokens, " << std::fixed
         << std::setprecision(0) << static_cast<double>(tokens) / std::max(seconds, 1e-9) << " tokens/s" << left();
    std::cerr << line.str() << std::endl;
    start_row();
  }

  const Flags& flags_;
  program::ComputeFlags judge_compute_;
  program::RowFiles files_;
  std::vector<Model> models_;  // the checkpoint, then the baselines
  index_t max_tokens_ = 0;
  Model judge_;
  evaluate::JudgePolicy policy_;
  std::vector<Row> rows_;
  std::size_t distinct_ = 0;  // rows with stories of their own
  program::ComparisonSchedule schedule_;
  std::optional<Clock::time_point> row_start_;
  program::ProgressLine line_;
};

int compare(const Flags& flags) {
  flags.check();
  Comparing comparing(flags);
  if (!comparing.work()) {
    std::cerr << "compare_stories: stopped; rows that are done are kept, the same command goes on from there\n";
    return program::stopped_exit_code();
  }
  const program::Comparison result = comparing.result();
  detail::AtomicFile page(comparing.files().page_path());
  detail::AtomicFile json(comparing.files().table_path());
  page.write(program::comparison_html(result));
  json.write(io::json_text(program::comparison_json(result)) + '\n');
  detail::AtomicFile::publish_all({&page, &json});
  std::cout << "Judge: " << result.judge << "\nPolicy: " << result.policy << "\n\n"
            << program::comparison_text(result) << std::flush;
  std::cerr << "the page with error bars and examples: " << comparing.files().page_path().string() << '\n';
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Writes stories with a checkpoint at the report's settings and with other models, has them judged, and makes a "
      "table of it",
      "compare_stories");
  flags.add_to(app);
  program::catch_stop_signals();
  program::survive_closed_pipes();
  return program::run(app, argc, argv, [&flags] { return compare(flags); });
}
