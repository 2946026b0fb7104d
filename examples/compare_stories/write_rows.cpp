// SPDX-License-Identifier: MIT
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/generate/generator.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "../comparison_jobs.hpp"
#include "../devices.hpp"
#include "../model_source.hpp"
#include "../story_text.hpp"

namespace program {

bool write_rows(const WritingJob& job, const std::function<void(const RowProgress&)>& on_progress,
                const std::function<void(std::size_t, const WrittenRow&)>& on_row) {
  using namespace storylm;
  using Clock = std::chrono::steady_clock;
  const ModelSource source(job.model);
  const LoadedTokenizer loaded = source.tokenizer(job.tokenizer);
  const StoryText text(loaded.tokenizer, job.prompt, loaded.adds_bos);
  std::vector<GenerateRequest> requests;
  for (index_t i = 0; i < job.quantity; ++i)
    requests.push_back({.prompt = text.prompt_ids(), .story = static_cast<std::uint32_t>(i)});
  const double room =
      std::max(1.0, static_cast<double>(job.max_tokens) - static_cast<double>(text.prompt_ids().size()));

  const auto write_all = [&](auto& generator) {
    for (std::size_t row = 0; row < job.samplers.size(); ++row) {
      const GenerateOptions options = source.generate_options(loaded.tokenizer, job.samplers[row]);
      const auto start = Clock::now();
      WrittenRow written;
      double finished = 0.0;
      double under_way = 0.0;  // tokens of stories that are not finished
      const auto stories = generator.generate(requests, options, [&](const GeneratedToken& token) {
        ++written.drawn;
        ++under_way;
        if (token.last) {
          ++finished;
          under_way -= static_cast<double>(token.position + 1) - static_cast<double>(text.prompt_ids().size());
        }
        on_progress({.row = row, .stories = finished + under_way / room, .tokens = written.drawn});
        return stop_signal == 0;
      });
      if (stop_signal != 0) return false;
      written.seconds = std::chrono::duration<double>(Clock::now() - start).count();
      for (const GeneratedStory& story : stories) {
        written.stories.push_back(RowFiles::storable(text.line(story.ids)));
        written.tokens.push_back(static_cast<index_t>(story.ids.size()));
        written.ended.push_back(story.ended);
      }
      on_row(row, written);
    }
    return true;
  };
  const index_t batch_size = std::min(job.batch_size, job.quantity);
  return with_device<true>(job.compute, [&]<class P, class D>(std::type_identity<P>, const D& device) {
    const TransformerConfig& c = source.config();
    source.expects_memory<P, D>(2.0 * c.n_layers * c.kv_heads() * c.head_size() * sizeof(kv_t<P>) *
                                    static_cast<double>(batch_size * job.max_tokens),
                                "for keys and values of " + std::to_string(batch_size) + " stories of " +
                                    std::to_string(job.max_tokens) + " tokens (--batch-size, --max-tokens)");
    return nn::with_stack_type<P, D>(source.config(), [&]<class Stack>(std::type_identity<Stack>) {
      Stack stack(source.config(), device, source.options(), nn::Gradients::no);
      source.load_into(stack);
      expects_identity(job.model, job.identity);
      Generator<Stack> generator(stack, batch_size, job.max_tokens);
      return write_all(generator);
    });
  });
}

}  // namespace program
