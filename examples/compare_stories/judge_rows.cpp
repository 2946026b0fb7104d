// SPDX-License-Identifier: MIT
#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>
#include <type_traits>
#include <vector>

#include <storylm/evaluate/judge.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "../comparison_jobs.hpp"
#include "../devices.hpp"
#include "../model_source.hpp"
#include "../story_files.hpp"

namespace program {

bool judge_rows(const JudgingJob& job, const std::function<void(const RowProgress&)>& on_progress,
                const std::function<void(std::size_t, const ScoredRow&)>& on_row) {
  using namespace storylm;
  using Clock = std::chrono::steady_clock;
  const ModelSource source(job.model);
  const LoadedTokenizer loaded = source.tokenizer(job.tokenizer, "--judge-tokenizer-path");
  const auto judge_all = [&](auto& judge) {
    for (std::size_t row = 0; row < job.files.size(); ++row) {
      std::vector<evaluate::JudgeStory> stories;
      for_each_story(job.files[row], [&](std::string_view text) {
        stories.push_back(judge_story(loaded.tokenizer, text, job.policy.bos));
      });
      on_progress({.row = row});  // the clock starts now: the next call counts what the first batch has scored by then
      const auto start = Clock::now();
      ScoredRow scored;
      scored.scores = judge.score(stories, [&](const evaluate::JudgeProgress& progress) {
        on_progress({.row = row,
                     .stories = static_cast<double>(stories.size()) * static_cast<double>(progress.tokens) /
                                static_cast<double>(progress.total_tokens),
                     .tokens = progress.tokens});
        return stop_signal == 0;
      });
      if (stop_signal != 0) return false;
      scored.seconds = std::chrono::duration<double>(Clock::now() - start).count();
      on_row(row, scored);
    }
    return true;
  };
  return with_device<true>(job.compute, [&]<class P, class D>(std::type_identity<P>, const D& device) {
    source.expects_memory<P, D>();
    return nn::with_stack_type<P, D>(source.config(), [&]<class Stack>(std::type_identity<Stack>) {
      Stack stack(source.config(), device, source.options(), nn::Gradients::no);
      source.load_into(stack);
      expects_identity(job.model, job.identity);
      evaluate::Judge<Stack> judge(stack, job.policy);
      return judge_all(judge);
    });
  });
}

}  // namespace program
