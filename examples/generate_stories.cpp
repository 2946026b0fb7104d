// SPDX-License-Identifier: MIT
// LINK: cuda
// Continues a prompt into stories, one per line.
//
//   generate_stories --checkpoint-path run/checkpoint_best.safetensors --prompt "Once upon a time " --gen-quantity 3
//   generate_stories --checkpoint-path gpt2 --prompt "Once upon a time" --gen-quantity 3
//
// The second is a Hugging Face folder: GPT-2, Llama or Mistral, in any size.
//
// Story i depends on the checkpoint, the prompt, the sampling flags, --seed and i: not on how many are written, at once
// or at all, nor on the number of threads.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/detail/atomic_file.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/text/any_tokenizer.hpp>

#include "devices.hpp"
#include "model_source.hpp"
#include "program.hpp"
#include "story_text.hpp"

namespace {

using namespace storylm;

struct Flags {
  std::filesystem::path checkpoint;
  std::filesystem::path tokenizer;
  std::filesystem::path output;
  std::string prompt = "Once upon a time ";
  std::string sampling = "softmax";
  SamplerOptions sampler{.temperature = 0.5, .top_k = 2};
  index_t quantity = 32;
  index_t max_tokens = 0;
  index_t batch_size = 32;
  bool stream = false;
  program::ComputeFlags compute{.half_on_cpu = true};
};

/// Where stories go: a file that is complete or absent, or standard output, in their order.
class StoryOutput {
 public:
  StoryOutput(const std::filesystem::path& path, std::size_t count) : lines_(count) {
    if (!path.empty()) file_.emplace(path);
  }
  /// Story `index` is done; it is written as soon as those before it are.
  void add(std::size_t index, std::string line) {
    lines_[index] = std::move(line) + '\n';
    for (; next_ < lines_.size() && !lines_[next_].empty(); ++next_) {
      if (file_) {
        file_->write(std::string_view(lines_[next_]));
      } else {
        std::cout << lines_[next_] << std::flush;
      }
      std::string().swap(lines_[next_]);
    }
  }
  [[nodiscard]] std::size_t written() const { return next_; }
  void publish() {
    if (file_) file_->publish();
  }

 private:
  std::vector<std::string> lines_;
  std::optional<detail::AtomicFile> file_;
  std::size_t next_ = 0;
};

/// Tokens drawn, and how fast.
class Speed {
 public:
  void count() { ++tokens_; }
  [[nodiscard]] std::string text() const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    std::ostringstream out;
    out << tokens_ << " tokens in " << std::fixed << std::setprecision(1) << seconds << " s, " << std::setprecision(0)
        << static_cast<double>(tokens_) / std::max(seconds, 1e-9) << " tokens/s";
    return out.str();
  }

 private:
  index_t tokens_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Writes the stories; false when a signal stopped it.
template <class Stack>
bool write_stories(const Flags& flags, const Stack& stack, const program::StoryText<AnyTokenizer>& text,
                   const GenerateOptions& options, StoryOutput& output) {
  std::vector<GenerateRequest> requests;
  for (index_t i = 0; i < flags.quantity; ++i)
    requests.push_back({.prompt = text.prompt_ids(), .story = static_cast<std::uint32_t>(i)});
  Generator<Stack> generator(stack, flags.batch_size, flags.max_tokens);

  const bool shows_progress = !flags.stream && (!flags.output.empty() || isatty(STDOUT_FILENO) == 0);
  program::ProgressLine progress;
  program::GrowingText growing;
  Speed speed;
  const auto on_token = [&](const GeneratedToken& token) {
    speed.count();
    if (flags.stream) {
      const std::string line = text.line(token.ids);
      std::cout << growing.grow(line, token.last) << std::flush;
      if (token.last) growing = {};
    }
    if (token.last) output.add(token.request, flags.stream ? std::string() : text.line(token.ids));
    if (shows_progress && progress.due()) {
      progress.show(std::to_string(output.written()) + " of " + std::to_string(flags.quantity) + " stories, " +
                    speed.text());
    }
    return program::stop_signal == 0 && static_cast<bool>(std::cout);
  };
  const auto stories = generator.generate(requests, options, on_token);
  progress.finish();
  if (program::stop_signal != 0) return false;
  // A prompt that leaves no room for a continuation is a story that no token is reported of.
  for (std::size_t i = output.written(); i < stories.size() && std::cout; ++i) output.add(i, text.line(stories[i].ids));
  std::cerr << flags.quantity << (flags.quantity == 1 ? " story, " : " stories, ") << speed.text() << '\n';
  return true;
}

/// Tokens of a story, prompt included, unless --max-tokens says otherwise: max_len for our checkpoints, which are made
/// for stories of that length; for others as many as the reference system's stories have, since keys and values of
/// 32768 tokens would take memory that nobody asked for.
index_t default_max_tokens(const program::ModelSource& source) {
  constexpr index_t of_the_reference = 256;
  const index_t most = source.config().max_len;
  return source.is_folder() ? std::min(most, of_the_reference) : most;
}

/// Bytes of keys and values of a batch of stories.
template <class P>
double kv_bytes(const Flags& flags, const TransformerConfig& c) {
  return 2.0 * c.n_layers * c.kv_heads() * c.head_size() * sizeof(kv_t<P>) * static_cast<double>(flags.batch_size) *
         static_cast<double>(flags.max_tokens);
}

int generate(Flags& flags) {
  flags.compute.check();
  flags.sampler.policy = sampling_policy(flags.sampling);
  ops::expects_sampler_options(flags.sampler);
  const auto in_range = [](const char* name, index_t value, index_t least, index_t most) {
    expects<ArgumentError>(value >= least && value <= most, "generate_stories", name, " must be in [", least, ", ",
                           most, "]: ", value);
  };
  in_range("--gen-quantity", flags.quantity, 1, std::numeric_limits<std::int32_t>::max());
  in_range("--batch-size", flags.batch_size, 1, 1 << 16);
  const program::ModelSource source(flags.checkpoint);
  if (flags.max_tokens != 0) in_range("--max-tokens", flags.max_tokens, 1, source.config().max_len);
  if (flags.max_tokens == 0) flags.max_tokens = default_max_tokens(source);
  flags.batch_size = flags.stream ? 1 : std::min(flags.batch_size, flags.quantity);
  const auto loaded = source.tokenizer(flags.tokenizer);
  const program::StoryText<AnyTokenizer> text(loaded.tokenizer, flags.prompt, loaded.adds_bos);
  const GenerateOptions options = source.generate_options(loaded.tokenizer, flags.sampler);
  StoryOutput output(flags.output, static_cast<std::size_t>(flags.quantity));
  if (text.ends_in_space_token()) {
    std::cerr << "generate_stories: the space at the end of the prompt is a token of its own to this model, which "
                 "expects it to come with the next word: it may go on better without\n";
  }
  const bool finished =
      program::with_device<true>(flags.compute, [&]<class P, class D>(std::type_identity<P>, const D& device) {
        source.expects_memory<P, D>(kv_bytes<P>(flags, source.config()),
                                    "for keys and values of " + std::to_string(flags.batch_size) + " stories of " +
                                        std::to_string(flags.max_tokens) + " tokens (--batch-size, --max-tokens)");
        return nn::with_stack_type<P, D>(source.config(), [&]<class Stack>(std::type_identity<Stack>) {
          Stack stack(source.config(), device, source.options(), nn::Gradients::no);
          source.load_into(stack);
          return write_stories(flags, stack, text, options, output);
        });
      });
  if (!finished) {
    std::cerr << "generate_stories: stopped" << (flags.output.empty() ? "" : "; the output file was not written")
              << '\n';
    return program::stopped_exit_code();
  }
  output.publish();
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Continues a prompt into stories, one per line", "generate_stories");
  app.add_option("--checkpoint-path", flags.checkpoint,
                 "a checkpoint that train_stories wrote, of any shape, or a folder: a run's (its best checkpoint) or "
                 "Hugging Face's (GPT-2, Llama, Mistral)")
      ->required();
  app.add_option("--tokenizer-path", flags.tokenizer,
                 "the tokenizer's .model file or folder (default: bpe.model in the checkpoint's folder, or what the "
                 "Hugging Face folder holds)");
  app.add_option("--prompt", flags.prompt, "how every story begins; printed as it is typed")->capture_default_str();
  app.add_option("--gen-topk", flags.sampler.top_k, "sample among the k most probable tokens; 1: greedy, 0: among all")
      ->capture_default_str();
  app.add_option("--gen-temperature", flags.sampler.temperature, "temperature of sampling; 0: greedy")
      ->capture_default_str();
  app.add_option("--gen-quantity", flags.quantity, "number of stories")->capture_default_str();
  app.add_option("--output-file", flags.output,
                 "file that gets the stories when all are complete (default: standard "
                 "output)");
  app.add_option(
      "--max-tokens", flags.max_tokens,
      "most tokens of a story, prompt included (default: the model's max_len, for a Hugging Face folder up to "
      "256)");
  app.add_option("--gen-topp", flags.sampler.top_p,
                 "sample among the most probable tokens that together reach this probability; 1: off")
      ->capture_default_str();
  app.add_option("--gen-minp", flags.sampler.min_p,
                 "sample among tokens at least this times as probable as the most probable; 0: off")
      ->capture_default_str();
  app.add_option("--repetition-penalty", flags.sampler.repetition_penalty,
                 "divides (multiplies when negative) logits of tokens that the story has already; 1: off")
      ->capture_default_str();
  app.add_option("--sampling", flags.sampling,
                 "softmax: weights exp(logit / T); logits-as-weights: max(logit, 0) / T, so that T cancels; "
                 "inverse-temperature: exp(T logit). A temperature of 0 is greedy in all three")
      ->capture_default_str();
  app.add_option("--seed", flags.sampler.seed, "story i is a function of the seed and i")->capture_default_str();
  app.add_option("--batch-size", flags.batch_size, "stories written at a time; changes speed and memory only")
      ->capture_default_str();
  auto* stream = app.add_flag("--stream", flags.stream,
                              "print stories token by token as they come, one after another (default: off)");
  stream->excludes("--output-file");
  flags.compute.add_to(app);
  program::catch_stop_signals();
  return program::run(app, argc, argv, [&flags] { return generate(flags); });
}
