// SPDX-License-Identifier: MIT
// LINK: cuda
// Trains a story model on what prepare_stories made, and goes on where it stopped.
//
//   train_stories --data-dir data/ --run-dir run/ --model story_24m
//
// The run folder: checkpoint_last.safetensors and the one before it, checkpoint_best.safetensors, metrics.jsonl,
// train.log, loss.svg, and copies of the tokenizer. The loop at the end is the reference system's; everything it is
// made of is the library's.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/algorithm_table.hpp>
#include <storylm/data/loader.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/evaluate/loss.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/models/transformer_lm.hpp>
#include <storylm/ops/peak_flops.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/grad_scaler.hpp>
#include <storylm/optim/schedules.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/train/flops.hpp>
#include <storylm/train/history.hpp>
#include <storylm/train/loss_plot.hpp>
#include <storylm/train/metrics.hpp>
#include <storylm/train/progress.hpp>
#include <storylm/train/recordings.hpp>
#include <storylm/train/run_state.hpp>
#include <storylm/train/spike_guard.hpp>
#include <storylm/train/step.hpp>

#include "devices.hpp"
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

/// A step that the device was given and whose result has not come.
struct GivenStep {
  index_t epoch = 0;   // from 1
  index_t tokens = 0;  // target tokens
  Clock::time_point start;
  std::vector<std::uint32_t> stories;  // of the data
  std::optional<train::SpikeScores> spike;
};

/// Stands where the dtype needs no loss scale.
struct NoScaler {
  explicit NoScaler(const auto& /*store*/) {}
};

/// Training of a model of one kind, on one device, in one dtype.
template <class Model>
class Training {
 public:
  using Precision = typename Model::precision;
  using Device = typename Model::device_type;

  Training(const program::TrainFlags& flags, program::StoryData data, const TransformerConfig& config, Device device)
      : flags_(flags),
        tokenizer_(std::move(data.tokenizer)),
        story_text_(tokenizer_, flags.prompt),
        device_(std::move(device)),
        model_(config, device_, {.dropout = flags.dropout, .seed = flags.seed}),
        optimizer_(model_.parameters()),
        scaler_(model_.parameters()),
        schedule_({.lr = flags.lr, .factor = 0.3, .patience = 10}),
        guard_({.threshold = flags.spike_threshold, .window = flags.spike_window}),
        loader_(data.tokens, loader_options(flags, tokenizer_, data.tokens), Split::train),
        validation_(data.tokens, loader_options(flags, tokenizer_, data.tokens), Split::validation),
        step_(model_, loader_.capacity(), flags.seed),
        validation_loss_(model_, validation_.capacity()),
        generator_(model_, 1),
        total_steps_(total_steps()),
        pace_(total_steps_, train::flops_per_token(model_.shape(), mean_length()), peak_flops()),
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
    state_.keep_if_stored("spike_guard", guard_);  // runs began without these two once
    state_.keep_if_stored("skipped_steps", skipped_);
    if constexpr (scales_loss) state_.keep("grad_scaler", scaler_);
    if (AlgorithmTable* table = algorithm_table(device_)) state_.keep("algorithms", *table);
    state_.set_tokenizer_hash(tokenizer_.hash());
    for (const auto& [name, value, unrecorded] : flags_.settings()) state_.expect(name, value, unrecorded);
    const std::string content = detail::hash_text(data.tokens.fingerprint());
    state_.expect("stories.tokens", content, content);  // where it is not recorded, the loader's cursor knows
  }

  /// Runs to the end or to a signal; returns the exit code.
  int run() {
    begin();
    if (unwritten_.tokens > 0) finish_step();
    while (steps() < total_steps_ && program::stop_signal == 0 && !gives_up()) {
      give_step();
      settle(validates(steps()) || checkpoint_is_due() || guard_.on() ? 0 : steps_ahead);
    }
    settle(0);
    if (gives_up()) {
      say("gives up: the last " + std::to_string(skipped_.in_a_row()) + " steps were skipped; " + last_checkpoint());
      return program::exit_failure;
    }
    if (program::stop_signal != 0) {
      if (!saved_ && skipped_.in_a_row() == 0) save_last();
      say("stopped by a signal after step " + std::to_string(steps()) + "; start again to go on" +
          (saved_ ? "" : "; steps are being skipped: " + last_checkpoint()));
      return program::stopped_exit_code();
    }
    const bool measured = history_.best_step() >= 0;
    say("done: " + std::to_string(steps()) + " steps" +
        (measured ? ", best validation loss " + fixed(history_.best(), 4) + " at step " +
                        std::to_string(history_.best_step())
                  : std::string()) +
        (skipped_.total() > 0 ? ", " + std::to_string(skipped_.total()) + " skipped" : "") +
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
            .capacity = {.tokens = std::min(all, std::max(flags.tokens_at_once(), flags.max_len - 1))},
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
  /// The share of the device's best arithmetic is shown where that is known.
  [[nodiscard]] double peak_flops() const {
    if constexpr (Supports<Device, op::peak_flops, activation_t<Precision>>) {
      return ops::peak_flops<activation_t<Precision>>(device_);
    } else {
      return 0.0;
    }
  }
  /// Steps given to the device.
  [[nodiscard]] index_t steps() const { return static_cast<index_t>(step_.steps()); }
  /// Steps whose results are known.
  [[nodiscard]] index_t steps_done() const { return static_cast<index_t>(history_.losses().size()); }
  [[nodiscard]] bool validates(index_t step) const { return step % flags_.validate_every == 0 || step == total_steps_; }
  [[nodiscard]] bool checkpoint_is_due() const {
    return flags_.checkpoint_minutes > 0.0 && seconds_since(last_save_) / 60.0 >= flags_.checkpoint_minutes;
  }
  [[nodiscard]] bool gives_up() const {
    return flags_.max_skipped_steps > 0 && skipped_.in_a_row() >= flags_.max_skipped_steps;
  }
  [[nodiscard]] std::string last_checkpoint() const {
    if (!saved_step_) return "there is no checkpoint yet";
    return folder_.file(last_name).string() + " is that of step " + std::to_string(*saved_step_);
  }
  void say(const std::string& text) { folder_.say(progress_, text); }

  void begin() {
    const bool chosen = !flags_.resume_from.empty();
    const std::filesystem::path from = chosen ? flags_.resume_from : folder_.file(last_name);
    const bool goes_on = chosen || std::filesystem::exists(from);
    if (goes_on) {
      program::load_checkpoint(state_, from, folder_);
    } else {
      program::expect_no_checkpoint(folder_);
    }
    folder_.keep(tokenizer_, goes_on);
    metrics_.open();
    if (goes_on) draw();  // a kill may have come between checkpoint and picture
    saved_ = goes_on && !chosen;
    if (saved_) saved_step_ = steps_done();
    std::string with;
    for (const auto& [name, value, unrecorded] : flags_.settings()) with += ", " + name + ' ' + value;
    say((goes_on ? "goes on after step " + std::to_string(steps()) : std::string("begins")) +
        (chosen ? " from " + from.string() : "") + ": " + flags_.model + ", " +
        std::to_string(nn::parameter_count(model_)) + " parameters, " + std::to_string(loader_.size()) +
        " stories to train on, " + std::to_string(validation_.size()) + " to validate" +
        (validation_.size() == 0 ? " (the training loss stands in)" : "") + ", " + std::to_string(total_steps_) +
        " steps" + with + ", " + program::described(device_));
    if (const AlgorithmTable* table = algorithm_table(device_); table != nullptr && table->foreign_entries() > 0) {
      say(std::to_string(table->foreign_entries()) +
          " algorithms of the checkpoint are for another GPU or cuBLAS: from here on, sums may be ordered otherwise");
    }
  }

  /// Gives the device a step and orders its result; waits for nothing.
  void give_step() {
    const auto start = Clock::now();
    const StepBatch& batch = loader_.next();
    step_.begin(batch, schedule_.lr());
    if constexpr (scales_loss) scaler_.begin(step_);
    const auto gradients = [&](const Packed<Cpu>& micro) {
      model_.forward(micro, step_);
      model_.backward(micro, step_);
    };
    const auto clip = [&] { optim::clip_grad_norm(model_.parameters(), flags_.clip_norm, step_); };
    const auto update = [&] {
      optimizer_.step(step_);
      if constexpr (scales_loss) scaler_.update(step_);
    };
    std::optional<train::SpikeScores> spike;
    if (batch.size() == 1 && !guard_.on()) {
      whole_.run(step_.pass(batch[0]), [&] {
        gradients(batch[0]);
        clip();
        update();
      });
    } else {
      for (const auto& micro : batch) gradients_.run(step_.pass(micro), [&] { gradients(micro); });
      clip_.run(device_, clip);
      if (guard_.on()) spike = spike_of(step_.result());
      if (!spike) update_.run(device_, update);
    }
    step_.post_result();
    const auto stories = batch.stories();
    given_.push_back({.epoch = batch.epoch() + 1,
                      .tokens = batch.targets(),
                      .start = start,
                      .stories = {stories.begin(), stories.end()},
                      .spike = spike});
    saved_ = false;
  }

  /// What makes the step one, and then it is a skipped step. One whose gradients are not finite is the optimizer's to
  /// skip, and the scaler's to learn from.
  std::optional<train::SpikeScores> spike_of(const train::StepResult& result) {
    const train::SpikeScores scores = guard_.scores(result);
    if (guard_.admit(result) || result.skipped) return std::nullopt;
    step_.skip();
    return scores;
  }

  /// Finishes the steps that were given, but for the last `ahead`.
  void settle(std::size_t ahead) {
    while (given_.size() > ahead) {
      take_step();
      finish_step();
    }
  }

  /// Waits for the result of the oldest step that was given.
  void take_step() {
    const train::StepResult result = step_.take_result();
    const GivenStep given = std::move(given_.front());
    given_.pop_front();
    history_.add_loss(result.loss);
    skipped_.add(result.skipped);
    unwritten_ = {.epoch = given.epoch,
                  .tokens = given.tokens,
                  .grad_norm = result.grad_norm,
                  .seconds = seconds_since(std::max(given.start, last_result_))};
    last_result_ = Clock::now();
    pace_.add_step(unwritten_.tokens, unwritten_.seconds);
    if (progress_.due()) progress_.show(pace_.line(given.epoch - 1, steps_done(), result.loss, schedule_.lr()));
    if (result.skipped) report_skipped(given, result);
  }

  void report_skipped(const GivenStep& given, const train::StepResult& result) {
    const std::string step = "step " + std::to_string(steps_done());
    std::string why = std::isfinite(result.grad_norm) ? "the loss is not finite" : "gradients are not finite";
    if (given.spike) {
      why = "loss " + fixed(result.loss, 4) + " and gradient norm " + fixed(result.grad_norm, 4) + " are " +
            fixed(given.spike->loss, 1) + " and " + fixed(given.spike->grad_norm, 1) +
            " standard deviations above those before";
    }
    say(step + ": " + why + ", nothing was changed" +
        (scales_loss && !given.spike ? "; the loss scale is halved" : "") + " (skipped: " +
        std::to_string(skipped_.in_a_row()) + " in a row, " + std::to_string(skipped_.total()) + " in all)");
    std::string stories;
    for (const std::uint32_t story : given.stories) stories += ' ' + std::to_string(story);
    folder_.log(step + " was skipped; its stories:" + stories);
  }

  /// Validates when it is time to, writes the step's line and, now and then, the checkpoints. Nothing of it happens
  /// when a signal ends the validation.
  void finish_step() {
    const index_t step = steps_done();
    train::MetricsLine line;
    line.add("step", step).add("epoch", unwritten_.epoch).add("loss", history_.losses().back());
    line.add("lr", schedule_.lr()).add("grad_norm", unwritten_.grad_norm).add("tokens", unwritten_.tokens);
    line.add("tokens_per_second", static_cast<double>(unwritten_.tokens) / unwritten_.seconds);
    line.add("seconds", unwritten_.seconds);
    if (skipped_.in_a_row() > 0) line.add("skipped", true);

    bool best = false;
    if (validates(step)) {
      const std::optional<double> loss = validation_loss();
      if (!loss) return;
      best = history_.add_validation(step, *loss);
      // Not at the end of a run in between: one that goes on with more epochs takes the same steps as a longer one.
      if (step % flags_.validate_every == 0) schedule_.step(*loss);
      report(line, *loss, best);
    }
    metrics_.write(line);
    unwritten_ = {};
    if (best) {
      metrics_.sync();
      state_.save(folder_.file("checkpoint_best.safetensors"));
    }
    // No checkpoint of a run that may be lost replaces a good one; at the end the last step is what is asked for.
    const bool good = skipped_.in_a_row() == 0 || (step == total_steps_ && !gives_up());
    // The state is that of this step only when no other was given: run() sees to it when a checkpoint is due.
    if (good && given_.empty() && (validates(step) || checkpoint_is_due())) save_last();
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
          progress_.show("step " + std::to_string(steps_done()) + ": validates, batch " + std::to_string(i + 1) +
                         " of " + std::to_string(batches));
      }
    }
    return validation_loss_.mean();
  }

  void report(train::MetricsLine& line, double loss, bool best) {
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    const Sample sample = std::isfinite(loss) ? tell_story() : Sample{"(the loss is not finite)", none};
    line.add("validation_loss", validation_.size() > 0 ? loss : none).add("sample", sample.text);
    line.add("generation_tokens_per_second", sample.tokens_per_second);
    say("step " + std::to_string(steps_done()) + "  training loss " + fixed(history_.losses().back(), 4) +
        "  validation loss " + fixed(loss, 4) + (best ? " (best)" : "") + "  lr " + program::number(schedule_.lr()) +
        "  generation " + fixed(sample.tokens_per_second, 0) + " tokens/s\n    " + sample.text);
  }

  /// The number of the story is that of the step: the same in every run of this seed.
  Sample tell_story() {
    const auto start = Clock::now();
    const GenerateRequest request{.prompt = story_text_.prompt_ids(),
                                  .story = static_cast<std::uint32_t>(steps_done()),
                                  .max_tokens = flags_.max_len};
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
    // What this program neither read nor wrote is nobody's predecessor: it may be damaged.
    state_.save(folder_.file(last_name),
                saved_step_ ? folder_.file(program::previous_checkpoint) : std::filesystem::path());
    saved_ = true;
    saved_step_ = steps_done();
    last_save_ = Clock::now();
    draw();
  }
  void draw() const { detail::write_file(folder_.file("loss.svg"), train::loss_plot(history_)); }

  static constexpr std::string_view last_name = program::last_checkpoint;
  static constexpr bool scales_loss = std::is_same_v<weight_t<Precision>, half>;
  /// While the host waits for a GPU's step, that has the next one already.
  static constexpr std::size_t steps_ahead = Device::host_memory ? 0 : 1;

  program::TrainFlags flags_;
  SentencePieceTokenizer tokenizer_;
  program::StoryText<SentencePieceTokenizer> story_text_;
  Device device_;
  Model model_;
  optim::Adam<weight_t<Precision>, Device> optimizer_;
  [[no_unique_address]] std::conditional_t<scales_loss, optim::GradScaler<half, Device>, NoScaler> scaler_;
  optim::ReduceOnPlateau schedule_;
  train::SpikeGuard guard_;
  train::SkippedSteps skipped_;
  StoryLoader<TokenFile> loader_;
  StoryLoader<TokenFile> validation_;
  train::Step<Model> step_;
  train::Recordings<Device> whole_;      // a step of one micro-batch
  train::Recordings<Device> gradients_;  // of several: forward and backward of one
  train::Recordings<Device> clip_;       // and what follows them
  train::Recordings<Device> update_;
  evaluate::LossMeter<Model> validation_loss_;
  Generator<Model> generator_;
  train::History history_;
  index_t total_steps_;
  train::Progress pace_;
  program::RunFolder folder_;
  train::MetricsFile metrics_;
  train::RunState state_;
  std::deque<GivenStep> given_;
  UnwrittenStep unwritten_;
  bool saved_ = false;                 // checkpoint_last is the state as it is
  std::optional<index_t> saved_step_;  // that of checkpoint_last, where it is known to be whole
  Clock::time_point last_save_ = Clock::now();
  Clock::time_point last_result_ = last_save_;
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
    code = program::with_device(flags.compute, [&]<class P, class D>(std::type_identity<P>, const D& device) {
      using Model = typename TransformerLM<C, P, D>::Stack;  // one for all presets of an architecture
      return Training<Model>(flags, std::move(data), C, device).run();
    });
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
