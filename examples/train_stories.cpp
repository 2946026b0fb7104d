// SPDX-License-Identifier: MIT
// Trains a story model on what prepare_stories made, and goes on where it stopped.
//
//   train_stories --data-dir data/ --run-dir run/ --model story_24m
//
// The run folder: checkpoint_last.safetensors, checkpoint_best.safetensors, metrics.jsonl, train.log, loss.svg, and
// copies of the tokenizer. The loop at the end is the reference system's; everything it is made of is the library's.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/evaluate/loss.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/models/transformer_lm.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/schedules.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/train/flops.hpp>
#include <storylm/train/history.hpp>
#include <storylm/train/loss_plot.hpp>
#include <storylm/train/metrics.hpp>
#include <storylm/train/progress.hpp>
#include <storylm/train/run_state.hpp>
#include <storylm/train/step.hpp>

#include "presets.hpp"
#include "program.hpp"

namespace {

using namespace storylm;
using Clock = std::chrono::steady_clock;

struct Flags {
  std::filesystem::path data_dir;
  std::filesystem::path run_dir;
  std::string model = "story_24m";
  index_t epochs = 100;
  index_t max_steps = 0;
  index_t batch_size = 512;
  index_t micro_tokens = 8192;
  index_t max_len = 256;
  double lr = 3e-4;
  index_t validate_every = 1000;
  double dropout = 0.1;
  double clip_norm = 1.0;
  std::uint64_t seed = 1;
  std::string prompt = "Once upon a time ";
  program::ComputeFlags compute;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

/// train.log: one line per event with the time of day. Not part of the run's state.
class Log {
 public:
  explicit Log(const std::filesystem::path& path) : file_(path, std::ios::app) {
    expects<IoError>(file_.is_open(), "train_stories", path.string(), ": cannot be opened for writing");
  }
  /// Writes the line here and to standard error.
  void say(program::ProgressLine& progress, const std::string& text) {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    file_ << std::put_time(&local, "%F %T  ") << text << std::endl;
    progress.finish();
    std::cerr << text << std::endl;
  }

 private:
  std::ofstream file_;
};

/// The data, the tokenizer it was made with, and proof that they belong together.
struct Data {
  SentencePieceTokenizer tokenizer;
  TokenFile tokens;

  explicit Data(const std::filesystem::path& folder)
      : tokenizer(SentencePieceTokenizer::load(folder / "bpe.model")), tokens(folder / "stories.tokens") {
    expects<FormatError>(tokens.info().tokenizer_hash == tokenizer.hash(), "train_stories", tokens.path().string(),
                         ": was made with the tokenizer ", detail::hash_text(tokens.info().tokenizer_hash), ", but ",
                         (folder / "bpe.model").string(), " is ", detail::hash_text(tokenizer.hash()));
    tokens.verify();
  }
};

/// A sample story and how fast it was generated.
struct Sample {
  std::string text;
  double tokens_per_second = 0.0;
};

/// Training of one preset.
template <TransformerConfig C>
class Training {
 public:
  using Model = TransformerLM<C, float, Cpu>;

  Training(const Flags& flags, Data data)
      : flags_(flags),
        tokenizer_(std::move(data.tokenizer)),
        device_({.threads = flags.compute.threads}),
        model_(device_, {.dropout = flags.dropout, .seed = flags.seed}),
        optimizer_(model_.parameters()),
        schedule_({.lr = flags.lr, .factor = 0.3, .patience = 10}),
        loader_(data.tokens, loader_options(flags, tokenizer_), Split::train),
        validation_(data.tokens, loader_options(flags, tokenizer_), Split::validation),
        step_(model_, loader_.capacity(), flags.seed),
        validation_loss_(model_, validation_.capacity()),
        generator_(model_, 1),
        metrics_(flags.run_dir / "metrics.jsonl"),
        log_(flags.run_dir / "train.log"),
        state_(model_),
        total_steps_(total_steps()),
        pace_(total_steps_, train::flops_per_token(C, mean_length()), ops::peak_flops<float>(device_)) {
    state_.keep("optimizer", optimizer_);
    state_.keep("schedule", schedule_);
    state_.keep("loader", loader_);
    state_.keep("step", step_);
    state_.keep("history", history_);
    state_.keep("metrics", metrics_);
    state_.set_tokenizer_hash(tokenizer_.hash());
    state_.expect("batch_size", std::to_string(flags.batch_size));
    state_.expect("max_len", std::to_string(flags.max_len));
    state_.expect("micro_tokens", std::to_string(flags.micro_tokens));
    state_.expect("dropout", fixed(flags.dropout, 6));
    state_.expect("clip_norm", fixed(flags.clip_norm, 6));
    state_.expect("lr", fixed(flags.lr, 9));
    state_.expect("seed", std::to_string(flags.seed));
  }

  /// Runs to the end or to a signal; returns the exit code.
  int run() {
    begin();
    while (steps() < total_steps_ && program::stop_signal == 0) train_step();
    if (program::stop_signal != 0) {
      save("checkpoint_last.safetensors");
      log_.say(progress_, "stopped by a signal after step " + std::to_string(steps()) + "; start again to go on");
      return program::stopped_exit_code();
    }
    log_.say(progress_, "done: " + std::to_string(steps()) + " steps, best validation loss " +
                            fixed(history_.best(), 4) + " at step " + std::to_string(history_.best_step()));
    return 0;
  }

 private:
  static LoaderOptions loader_options(const Flags& flags, const SentencePieceTokenizer& tokenizer) {
    const index_t all = flags.batch_size * (flags.max_len - 1);
    return {.batch_size = flags.batch_size,
            .max_len = flags.max_len,
            .seed = flags.seed,
            .bos = tokenizer.bos(),
            .eos = tokenizer.eos(),
            .capacity = {.tokens = std::min(all, std::max(flags.micro_tokens, flags.max_len - 1))},
            .epochs = flags.epochs};
  }

  [[nodiscard]] index_t total_steps() const {
    const index_t all = flags_.epochs * loader_.batches_per_epoch();
    return flags_.max_steps > 0 ? std::min(all, flags_.max_steps) : all;
  }
  [[nodiscard]] double mean_length() const {
    const auto info = loader_.source().info();
    return std::min<double>(static_cast<double>(flags_.max_len),
                            static_cast<double>(info.tokens) / static_cast<double>(std::max<index_t>(1, info.stories)));
  }
  [[nodiscard]] index_t steps() const { return static_cast<index_t>(step_.steps()); }
  [[nodiscard]] std::filesystem::path file(std::string_view name) const { return flags_.run_dir / name; }

  void begin() {
    const bool resumed = std::filesystem::exists(file("checkpoint_last.safetensors"));
    if (resumed) state_.load(file("checkpoint_last.safetensors"));
    metrics_.open();
    if (!resumed) tokenizer_.save(file("bpe.model"));
    log_.say(progress_, (resumed ? "going on after step " + std::to_string(steps()) : std::string("begins")) + ": " +
                            flags_.model + ", " + std::to_string(nn::parameter_count(model_)) + " parameters, " +
                            std::to_string(loader_.size()) + " stories to train on, " +
                            std::to_string(validation_.size()) + " to validate, " + std::to_string(total_steps_) +
                            " steps of up to " + std::to_string(flags_.batch_size) + " stories");
  }

  void train_step() {
    const auto start = Clock::now();
    const StepBatch& batch = loader_.next();
    const double lr = schedule_.lr();
    step_.begin(batch, lr);
    for (const auto& micro : batch) {
      model_.forward(micro, step_);
      model_.backward(micro, step_);
    }
    optim::clip_grad_norm(model_.parameters(), flags_.clip_norm, step_);
    optimizer_.step(step_);

    const train::StepResult result = step_.result();
    history_.add_loss(result.loss);
    const double seconds = seconds_since(start);
    pace_.add_step(batch.targets(), seconds);
    train::MetricsLine line;
    line.add("step", steps()).add("epoch", batch.epoch()).add("loss", result.loss).add("lr", lr);
    line.add("grad_norm", result.grad_norm).add("tokens", batch.targets());
    line.add("tokens_per_second", static_cast<double>(batch.targets()) / seconds).add("seconds", seconds);
    if (progress_.due()) progress_.show(pace_.line(batch.epoch(), steps(), result.loss, lr));
    if (result.skipped)
      log_.say(progress_, "step " + std::to_string(steps()) + ": gradients are not finite, nothing was changed");

    const bool at_validation = steps() % flags_.validate_every == 0 || steps() == total_steps_;
    const bool best = at_validation && validate(line);
    metrics_.write(line);
    if (best) save("checkpoint_best.safetensors");
    if (at_validation) save("checkpoint_last.safetensors");
  }

  /// Measures the validation loss, steps the schedule, tells a story. Returns true when the loss is the best so far.
  bool validate(train::MetricsLine& line) {
    validation_loss_.reset();
    validation_.rewind();
    for (index_t i = 0; i < validation_.batches_per_epoch(); ++i)
      for (const auto& micro : validation_.next()) validation_loss_.add(micro);
    const double loss = validation_.size() > 0 ? validation_loss_.mean() : history_.losses().back();
    const bool best = history_.add_validation(steps(), loss);
    schedule_.step(loss);
    const Sample sample = tell_story();
    line.add("validation_loss", loss).add("sample", sample.text);
    line.add("generation_tokens_per_second", sample.tokens_per_second);
    log_.say(
        progress_, "step " + std::to_string(steps()) + "  training loss " + fixed(history_.losses().back(), 4) +
                       "  validation loss " + fixed(loss, 4) + (best ? " (best)" : "") + "  lr " +
                       [&] {
                         std::ostringstream text;
                         text << schedule_.lr();
                         return text.str();
                       }() +
                       "  generation " + fixed(sample.tokens_per_second, 0) + " tokens/s\n    " + sample.text);
    detail::write_file(file("loss.svg"), train::loss_plot(history_));
    return best;
  }

  /// The number of the story is that of the step: the same in every run of this seed.
  Sample tell_story() {
    const auto start = Clock::now();
    std::vector<token_t> prompt = tokenizer_.encode(flags_.prompt);
    prompt.insert(prompt.begin(), tokenizer_.bos());
    const GenerateRequest request{.prompt = std::move(prompt), .story = static_cast<std::uint32_t>(steps())};
    const GenerateOptions options{.sampler = {.temperature = 0.5, .top_k = 2, .seed = flags_.seed},
                                  .eos = tokenizer_.eos(),
                                  .banned = {tokenizer_.unk(), tokenizer_.bos(), tokenizer_.pad()}};
    const auto story = generator_.generate(std::span(&request, 1), options).front();
    const auto drawn = static_cast<double>(static_cast<index_t>(story.ids.size()) - story.prompt_tokens);
    return {.text = tokenizer_.decode(story.ids), .tokens_per_second = drawn / seconds_since(start)};
  }

  void save(std::string_view name) { state_.save(file(name)); }

  Flags flags_;
  SentencePieceTokenizer tokenizer_;
  Cpu device_;
  Model model_;
  optim::Adam<float, Cpu> optimizer_;
  optim::ReduceOnPlateau schedule_;
  StoryLoader<TokenFile> loader_;
  StoryLoader<TokenFile> validation_;
  train::Step<Model> step_;
  evaluate::LossMeter<Model> validation_loss_;
  Generator<typename Model::Stack> generator_;
  train::History history_;
  train::MetricsFile metrics_;
  Log log_;
  train::RunState state_;
  index_t total_steps_;
  train::Progress pace_;
  program::ProgressLine progress_;
};

void check(const Flags& flags) {
  const auto positive = [](std::string_view name, auto value) {
    expects<ArgumentError>(value > 0, "train_stories", name, " must be positive: ", value);
  };
  positive("--epochs", flags.epochs);
  positive("--batch-size", flags.batch_size);
  positive("--micro-tokens", flags.micro_tokens);
  positive("--validate-every", flags.validate_every);
  positive("--lr", flags.lr);
  expects<ArgumentError>(flags.max_len >= 2, "train_stories", "--max-len must be at least 2: ", flags.max_len);
  expects<ArgumentError>(flags.max_steps >= 0, "train_stories", "--max-steps must not be negative: ", flags.max_steps);
  flags.compute.check();
}

int train_stories(const Flags& flags) {
  check(flags);
  program::catch_stop_signals();
  Data data(flags.data_dir);
  std::error_code error;
  std::filesystem::create_directories(flags.run_dir, error);
  expects<IoError>(!error, "train_stories", flags.run_dir.string(), ": ", error.message());
  int code = 0;
  const index_t vocab_size = data.tokenizer.vocab_size();
  program::with_preset(flags.model, vocab_size, [&]<TransformerConfig C>() {
    expects<ArgumentError>(flags.max_len <= C.max_len, "train_stories", "--max-len ", flags.max_len,
                           " exceeds the model's ", C.max_len);
    code = Training<C>(flags, std::move(data)).run();
  });
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a story model on what prepare_stories made; started again, it goes on where it stopped.",
               "train_stories");
  app.footer(program::preset_table());
  Flags flags;
  app.add_option("--data-dir", flags.data_dir, "folder with stories.tokens and bpe.model")->required();
  app.add_option("--run-dir", flags.run_dir, "folder for checkpoints, metrics, log and picture; made when missing")
      ->required();
  app.add_option("--model", flags.model, "name of a model, see below")->capture_default_str();
  app.add_option("--epochs", flags.epochs, "passes over the training stories")->capture_default_str();
  app.add_option("--max-steps", flags.max_steps, "end after that many steps; 0: no limit")->capture_default_str();
  app.add_option("--batch-size", flags.batch_size, "stories a step")->capture_default_str();
  app.add_option("--micro-tokens", flags.micro_tokens,
                 "tokens computed at once; memory grows with it, the result is that of the whole batch")
      ->capture_default_str();
  app.add_option("--max-len", flags.max_len, "longest sequence, BOS and EOS included; longer stories are cut")
      ->capture_default_str();
  app.add_option("--lr", flags.lr, "Adam's learning rate, before plateaus lower it")->capture_default_str();
  app.add_option("--validate-every", flags.validate_every, "steps between validations")->capture_default_str();
  app.add_option("--dropout", flags.dropout, "probability of dropping an element, in [0, 1)")->capture_default_str();
  app.add_option("--clip-norm", flags.clip_norm, "largest norm of all gradients; 0: no clipping")
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "of initial values, split, shuffling, dropout and samples")
      ->capture_default_str();
  app.add_option("--prompt", flags.prompt, "how the sample story at a validation begins")->capture_default_str();
  flags.compute.add_to(app);
  return program::run(app, argc, argv, [&] { return train_stories(flags); });
}
