// SPDX-License-Identifier: MIT
// Trains a story model on what prepare_stories made, and goes on where it stopped.
//
//   train_stories --data-dir data/ --run-dir run/ --model story_24m
//
// The run folder: checkpoint_last.safetensors, checkpoint_best.safetensors, metrics.jsonl, train.log, loss.svg, and
// copies of the tokenizer. The loop at the end is the reference system's; everything it is made of is the library's.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
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
#include <storylm/ops/peak.hpp>
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
#include "story_text.hpp"
#include "train_flags.hpp"
#include "training_files.hpp"

namespace {

using namespace storylm;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, digits);
  return end.ec == std::errc{} ? std::string(text.data(), end.ptr) : program::number(value);
}

/// A step that is done but has no line in metrics.jsonl yet. It is part of the run's state, because a signal may come
/// between the step and the validation that belongs to it: then the run goes on with that validation.
struct UnwrittenStep {
  index_t epoch = 0;   // from 1
  index_t tokens = 0;  // 0: there is none
  double grad_norm = 0.0;
  double seconds = 0.0;

  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("epoch", self.epoch);
    f("tokens", self.tokens);
    f("grad_norm", self.grad_norm);
    f("seconds", self.seconds);
  }
};

/// A story, and how fast it was told.
struct Sample {
  std::string text;
  double tokens_per_second = 0.0;
};

/// Training of one preset.
template <TransformerConfig C>
class Training {
 public:
  using Model = TransformerLM<C, float, Cpu>;

  Training(const program::TrainFlags& flags, program::StoryData data)
      : flags_(flags),
        tokenizer_(std::move(data.tokenizer)),
        story_text_(tokenizer_, flags.prompt),
        device_({.threads = flags.compute.threads}),
        model_(device_, {.dropout = flags.dropout, .seed = flags.seed}),
        optimizer_(model_.parameters()),
        schedule_({.lr = flags.lr, .factor = 0.3, .patience = 10}),
        loader_(data.tokens, loader_options(flags, tokenizer_, data.tokens), Split::train),
        validation_(data.tokens, loader_options(flags, tokenizer_, data.tokens), Split::validation),
        step_(model_, loader_.capacity(), flags.seed),
        validation_loss_(model_, validation_.capacity()),
        generator_(model_, 1),
        total_steps_(total_steps()),
        pace_(total_steps_, train::flops_per_token(C, mean_length()), ops::peak_flops<float>(device_)),
        folder_(flags.run_dir),
        metrics_(folder_.file("metrics.jsonl")),
        state_(model_) {
    state_.keep("optimizer", optimizer_);
    state_.keep("schedule", schedule_);
    state_.keep("loader", loader_);
    state_.keep("step", step_);
    state_.keep("history", history_);
    state_.keep("metrics", metrics_);
    state_.keep("unwritten_step", unwritten_);
    state_.set_tokenizer_hash(tokenizer_.hash());
    for (const auto& [name, value] : flags_.settings()) state_.expect(name, value);
  }

  /// Runs to the end or to a signal; returns the exit code.
  int run() {
    begin();
    if (unwritten_.tokens > 0) finish_step();
    while (steps() < total_steps_ && program::stop_signal == 0) {
      train_step();
      finish_step();
    }
    if (program::stop_signal != 0) {
      if (!saved_) save_last();
      say("stopped by a signal after step " + std::to_string(steps()) + "; start again to go on");
      return program::stopped_exit_code();
    }
    const bool measured = history_.best_step() >= 0;
    say("done: " + std::to_string(steps()) + " steps" +
        (measured ? ", best validation loss " + fixed(history_.best(), 4) + " at step " +
                        std::to_string(history_.best_step())
                  : std::string()) +
        "; more with a larger --epochs or --max-steps");
    return 0;
  }

 private:
  static LoaderOptions loader_options(const program::TrainFlags& flags, const SentencePieceTokenizer& tokenizer,
                                      const TokenFile& stories) {
    const index_t all = std::min(flags.batch_size, std::max<index_t>(1, stories.size())) * (flags.max_len - 1);
    return {.batch_size = flags.batch_size,
            .max_len = flags.max_len,
            .seed = flags.seed,
            .bos = tokenizer.bos(),
            .eos = tokenizer.eos(),
            .capacity = {.tokens = std::min(all, std::max(flags.micro_tokens, flags.max_len - 1))},
            .epochs = flags.epochs};
  }
  [[nodiscard]] index_t total_steps() const {
    const index_t most = flags_.max_steps > 0 ? flags_.max_steps : std::numeric_limits<index_t>::max();
    const index_t epoch = loader_.batches_per_epoch();
    return flags_.epochs > most / epoch ? most : flags_.epochs * epoch;
  }
  [[nodiscard]] double mean_length() const {
    const auto info = loader_.source().info();
    return std::min<double>(static_cast<double>(flags_.max_len),
                            static_cast<double>(info.tokens) / static_cast<double>(std::max<index_t>(1, info.stories)));
  }
  [[nodiscard]] index_t steps() const { return static_cast<index_t>(step_.steps()); }
  void say(const std::string& text) { folder_.say(progress_, text); }

  void begin() {
    const std::filesystem::path last = folder_.file("checkpoint_last.safetensors");
    const bool goes_on = std::filesystem::exists(last);
    if (goes_on) state_.load(last);
    folder_.keep(tokenizer_, goes_on);
    metrics_.open();
    saved_ = goes_on;
    std::string with;
    for (const auto& [name, value] : flags_.settings()) with += ", " + name + ' ' + value;
    say((goes_on ? "goes on after step " + std::to_string(steps()) : std::string("begins")) + ": " + flags_.model +
        ", " + std::to_string(nn::parameter_count(model_)) + " parameters, " + std::to_string(loader_.size()) +
        " stories to train on, " + std::to_string(validation_.size()) + " to validate" +
        (validation_.size() == 0 ? " (the training loss stands in)" : "") + ", " + std::to_string(total_steps_) +
        " steps" + with + ", " + std::to_string(program::thread_count(flags_.compute.threads)) + " threads");
  }

  void train_step() {
    const auto start = Clock::now();
    const StepBatch& batch = loader_.next();
    step_.begin(batch, schedule_.lr());
    for (const auto& micro : batch) {
      model_.forward(micro, step_);
      model_.backward(micro, step_);
    }
    optim::clip_grad_norm(model_.parameters(), flags_.clip_norm, step_);
    optimizer_.step(step_);

    const train::StepResult result = step_.result();
    history_.add_loss(result.loss);
    unwritten_ = {.epoch = batch.epoch() + 1,
                  .tokens = batch.targets(),
                  .grad_norm = result.grad_norm,
                  .seconds = seconds_since(start)};
    saved_ = false;
    pace_.add_step(unwritten_.tokens, unwritten_.seconds);
    if (progress_.due()) progress_.show(pace_.line(batch.epoch(), steps(), result.loss, schedule_.lr()));
    if (result.skipped) say("step " + std::to_string(steps()) + ": gradients are not finite, nothing was changed");
  }

  /// Validates when it is time to, writes the step's line and, now and then, the checkpoints. Nothing of it happens
  /// when a signal ends the validation.
  void finish_step() {
    train::MetricsLine line;
    line.add("step", steps()).add("epoch", unwritten_.epoch).add("loss", history_.losses().back());
    line.add("lr", schedule_.lr()).add("grad_norm", unwritten_.grad_norm).add("tokens", unwritten_.tokens);
    line.add("tokens_per_second", static_cast<double>(unwritten_.tokens) / unwritten_.seconds);
    line.add("seconds", unwritten_.seconds);

    const bool validates = steps() % flags_.validate_every == 0 || steps() == total_steps_;
    bool best = false;
    if (validates) {
      const std::optional<double> loss = validation_loss();
      if (!loss) return;
      best = history_.add_validation(steps(), *loss);
      // Not at the end of a run in between: one that goes on with more epochs takes the same steps as a longer one.
      if (steps() % flags_.validate_every == 0) schedule_.step(*loss);
      report(line, *loss, best);
    }
    metrics_.write(line);
    unwritten_ = {};
    if (best) state_.save(folder_.file("checkpoint_best.safetensors"));
    const double minutes = seconds_since(last_save_) / 60.0;
    if (validates || (flags_.checkpoint_minutes > 0.0 && minutes >= flags_.checkpoint_minutes)) save_last();
  }

  /// Mean over all target tokens of the validation stories; the step's own loss where there are none, and nothing when
  /// a signal came meanwhile.
  std::optional<double> validation_loss() {
    if (validation_.size() == 0) return history_.losses().back();
    validation_loss_.reset();
    validation_.rewind();
    const index_t batches = validation_.batches_per_epoch();
    for (index_t i = 0; i < batches; ++i) {
      for (const auto& micro : validation_.next()) {
        if (program::stop_signal != 0) return std::nullopt;
        validation_loss_.add(micro);
        if (progress_.due())
          progress_.show("step " + std::to_string(steps()) + ": validates, batch " + std::to_string(i + 1) + " of " +
                         std::to_string(batches));
      }
    }
    return validation_loss_.mean();
  }

  void report(train::MetricsLine& line, double loss, bool best) {
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    const Sample sample = std::isfinite(loss) ? tell_story() : Sample{"(the loss is not finite)", none};
    line.add("validation_loss", validation_.size() > 0 ? loss : none).add("sample", sample.text);
    line.add("generation_tokens_per_second", sample.tokens_per_second);
    say("step " + std::to_string(steps()) + "  training loss " + fixed(history_.losses().back(), 4) +
        "  validation loss " + fixed(loss, 4) + (best ? " (best)" : "") + "  lr " + program::number(schedule_.lr()) +
        "  generation " + fixed(sample.tokens_per_second, 0) + " tokens/s\n    " + sample.text);
  }

  /// The number of the story is that of the step: the same in every run of this seed.
  Sample tell_story() {
    const auto start = Clock::now();
    const GenerateRequest request{
        .prompt = story_text_.prompt_ids(), .story = static_cast<std::uint32_t>(steps()), .max_tokens = flags_.max_len};
    const GenerateOptions options{.sampler = {.temperature = 0.5, .top_k = 2, .seed = flags_.seed},
                                  .eos = tokenizer_.eos(),
                                  .banned = {tokenizer_.unk(), tokenizer_.bos(), tokenizer_.pad()}};
    const GeneratedStory story = generator_.generate(std::span(&request, 1), options).front();
    const index_t drawn = static_cast<index_t>(story.ids.size()) - story.prompt_tokens + (story.ended ? 1 : 0);
    return {story_text_.line(story.ids), static_cast<double>(drawn) / seconds_since(start)};
  }

  /// The picture comes last: when the disk is full, the checkpoint is what matters.
  void save_last() {
    metrics_.sync();
    state_.save(folder_.file("checkpoint_last.safetensors"));
    saved_ = true;
    last_save_ = Clock::now();
    detail::write_file(folder_.file("loss.svg"), train::loss_plot(history_));
  }

  program::TrainFlags flags_;
  SentencePieceTokenizer tokenizer_;
  program::StoryText<SentencePieceTokenizer> story_text_;
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
  index_t total_steps_;
  train::Progress pace_;
  program::RunFolder folder_;
  train::MetricsFile metrics_;
  train::RunState state_;
  UnwrittenStep unwritten_;
  bool saved_ = false;  // checkpoint_last is the state as it is
  Clock::time_point last_save_ = Clock::now();
  program::ProgressLine progress_;
};

int train_stories(const program::TrainFlags& flags) {
  flags.check();
  program::catch_stop_signals();
  program::survive_closed_pipes();  // `train_stories ... 2>&1 | head` must not lose steps
  program::StoryData data(flags.data_dir);
  const std::size_t prompt = program::StoryText(data.tokenizer, flags.prompt).prompt_ids().size();
  int code = 0;
  const index_t vocab_size = data.tokenizer.vocab_size();
  program::with_preset(flags.model, vocab_size, [&]<TransformerConfig C>() {
    expects<ArgumentError>(flags.max_len >= 2 && flags.max_len <= C.max_len, "train_stories",
                           "--max-len must be in [2, ", C.max_len, "] for ", flags.model, ": ", flags.max_len);
    expects<ArgumentError>(static_cast<index_t>(prompt) < flags.max_len, "train_stories", "--prompt has ", prompt,
                           " tokens, --max-len ", flags.max_len, " leaves no room for a story");
    code = Training<C>(flags, std::move(data)).run();
  });
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a story model on what prepare_stories made; started again, it goes on where it stopped.",
               "train_stories");
  app.footer(program::preset_table());
  program::TrainFlags flags;
  flags.add_to(app);
  return program::run(app, argc, argv, [&] { return train_stories(flags); });
}
