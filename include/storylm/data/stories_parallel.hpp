// SPDX-License-Identifier: MIT
/// @file
/// @brief Reads and cleans stories on several threads.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/data/cleaning.hpp>
#include <storylm/data/ordered_pipeline.hpp>
#include <storylm/data/stories.hpp>

namespace storylm {

/// How clean_stories() goes about it.
struct CleanStoriesOptions {
  int threads = 1;                                              ///< the calling one among them
  index_t max_stories = std::numeric_limits<index_t>::max();    ///< kept; then reading ends
  std::function<std::string(std::string_view clean)> finish{};  ///< applied to each clean story, on any thread
};

namespace detail {

/// A block on its way, and what became of it.
struct CleanBlock {
  StoryBlock block;
  index_t read = 0;
  CleaningCounts counts;
  std::vector<StoryProblem> problems;
  std::string text;               // clean stories, each followed by a line end
  std::vector<std::size_t> ends;  // of them in text, behind the line end

  [[nodiscard]] std::size_t bytes() const noexcept { return block.text.size(); }
};

/// One thread's parser and buffers.
class BlockCleaner {
 public:
  /// Parses and cleans until `most` stories have been kept, or until a problem when it is not to go on behind one.
  void clean(CleanBlock& job, index_t most, const StoryReaderOptions& reader, const CleanStoriesOptions& options) {
    using Next = BlockStories::Next;
    job.read = 0;
    job.counts = {};
    job.problems.clear();
    job.text.clear();
    job.ends.clear();
    std::string_view raw;
    StoryProblem problem;
    for (std::size_t i = 0; job.counts.kept < most;) {
      const Next next = stories_.next(job.block, i, raw, problem);
      if (next == Next::end) break;
      if (next == Next::problem) {
        job.problems.push_back(problem);
        if (problem.fatal || !reader.keep_going) break;
        continue;
      }
      ++job.read;
      if (!clean_story(raw, clean_, job.counts)) continue;
      job.text += options.finish ? options.finish(clean_) : clean_;
      job.text += '\n';
      job.ends.push_back(job.text.size());
    }
  }

 private:
  BlockStories stories_;
  std::string clean_;
};

}  // namespace detail

/// Clean stories in the order of their files, some at once.
class CleanStories {
 public:
  /// Looks at what `block` holds.
  explicit CleanStories(const detail::CleanBlock& block) : block_(&block) {}
  /// Number of stories.
  [[nodiscard]] std::size_t size() const noexcept { return block_->ends.size(); }
  /// Story i in [0, size()).
  [[nodiscard]] std::string_view operator[](std::size_t i) const noexcept {
    const std::size_t begin = i == 0 ? 0 : block_->ends[i - 1];
    return std::string_view(block_->text).substr(begin, block_->ends[i] - begin - 1);
  }
  /// All of them, each followed by a line end.
  [[nodiscard]] std::string_view lines() const noexcept { return block_->text; }

 private:
  const detail::CleanBlock* block_;
};

/// Reads all of `reader`, cleans the stories and hands them to `sink(const CleanStories&)`, block by block and in
/// order, on one thread at a time. What comes out, is counted and is reported does not depend on the number of threads.
/// @throws what StoryReader::next() throws, for the first problem in the order of the files, and what `sink` throws
template <class Sink>
void clean_stories(StoryReader& reader, CleaningCounts& counts, const CleanStoriesOptions& options, Sink&& sink) {
  expects<ArgumentError>(options.threads >= 1, "clean_stories", "threads must be positive: ", options.threads);
  if (options.max_stories <= counts.kept) return;
  std::vector<detail::BlockCleaner> cleaners(static_cast<std::size_t>(options.threads));
  detail::OrderedPipeline<detail::CleanBlock>(options.threads)
      .run([&](detail::CleanBlock& job) { return reader.next_block(job.block); },
           [&](detail::CleanBlock& job, std::size_t thread) {
             cleaners[thread].clean(job, options.max_stories, reader.options(), options);
           },
           [&](detail::CleanBlock& job) {
             if (reader.damaged(job.block.file)) return true;
             const index_t most = options.max_stories - counts.kept;
             if (job.counts.kept >= most) detail::BlockCleaner().clean(job, most, reader.options(), options);
             reader.account(job.block, job.read, job.problems);
             counts += job.counts;
             sink(CleanStories(job));
             return counts.kept < options.max_stories;
           });
}

}  // namespace storylm
