// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sample on the CPU: one token per row.
///
/// Everything after the logits is double, and every sum runs in an order that depends on the row alone: tokens from the
/// most to the least probable, equal ones by id. Candidates lie in a heap and are taken from it only as far as the draw
/// needs them, which is a few dozen of thousands.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/cpu/pieces.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/kernels/sampling.hpp>

namespace storylm {

namespace cpu {

/// A token that may be drawn.
struct SampleCandidate {
  double logit;   ///< after the repetition penalty
  double weight;  ///< not normalised
  token_t id;
};

/// True when `a` is less probable than `b`, or equally probable with a higher id: a total order.
[[nodiscard]] inline bool less_probable(const SampleCandidate& a, const SampleCandidate& b) {
  return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
}

/// The candidates of one row, taken in order from the most to the least probable; weights are made as they are taken.
template <class Weigh>
class SampleQueue {
 public:
  SampleQueue(SampleCandidate* candidates, index_t count, const Weigh& weigh)
      : begin_(candidates), count_(count), weigh_(weigh) {
    std::make_heap(begin_, begin_ + count, less_probable);
  }
  /// The i-th most probable candidate.
  [[nodiscard]] const SampleCandidate& operator[](index_t i) {
    for (; taken_ <= i; ++taken_) {
      SampleCandidate* const end = begin_ + count_ - taken_;
      std::pop_heap(begin_, end, less_probable);  // moves it behind the heap, before those taken already
      end[-1].weight = weigh_(end[-1].logit);
    }
    return begin_[count_ - 1 - i];
  }

 private:
  SampleCandidate* begin_;
  index_t count_;
  const Weigh& weigh_;
  index_t taken_ = 0;
};

/// Fills `out` with what may be drawn; returns how many, or -1 when the row has a NaN or plus infinity. `values` holds
/// `vocab` doubles.
template <class T>
index_t sample_candidates(const T* row, index_t vocab, const SampleRequest& request, index_t at, double* values,
                          SampleCandidate* out) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  bool valid = true;
  for (index_t i = 0; i < vocab; ++i) {
    values[i] = static_cast<double>(row[i]);
    valid &= values[i] < infinity;  // false for a NaN too
  }
  if (!valid) return -1;
  if (const double penalty = request.options.repetition_penalty; penalty != 1.0) {
    const token_t* story = request.history + request.slots[at] * request.capacity;
    for (std::int32_t i = 0; i < request.positions[at]; ++i) {
      const auto logit = static_cast<double>(row[story[i]]);  // the row's own: a token seen twice is penalised once
      values[story[i]] = logit > 0.0 ? logit / penalty : logit * penalty;
    }
  }
  for (index_t i = 0; i < request.banned_count; ++i) values[request.banned[i]] = -infinity;
  index_t count = 0;
  for (index_t i = 0; i < vocab; ++i) {
    out[count] = {values[i], 0.0, static_cast<token_t>(i)};
    count += values[i] > -infinity ? 1 : 0;
  }
  return count;
}

/// Draws from candidates. @pre count > 0
inline token_t draw_sample(SampleCandidate* candidates, index_t count, const SamplerOptions& options, double uniform) {
  const SampleCandidate best = *std::max_element(candidates, candidates + count, less_probable);
  if (options.temperature == 0.0 || options.top_k == 1) return best.id;
  const auto weigh = [&](double logit) { return sample_weight(options, best.logit, logit); };
  index_t kept = options.top_k > 0 ? std::min(options.top_k, count) : count;
  double total = 0.0;
  if (kept == count) {  // by id, before the queue moves them: the improbable ones need not be sorted
    for (index_t i = 0; i < count; ++i) total += weigh(candidates[i].logit);
  } else {  // one look at each of the others; what stays does not depend on the way
    const auto more_probable = [](const SampleCandidate& a, const SampleCandidate& b) { return less_probable(b, a); };
    constexpr index_t few = 64;
    if (kept <= few) {
      std::partial_sort(candidates, candidates + kept, candidates + count, more_probable);
    } else {
      std::nth_element(candidates, candidates + kept, candidates + count, more_probable);
    }
  }
  SampleQueue queue(candidates, kept, weigh);
  for (index_t i = 0; kept < count && i < kept; ++i) total += queue[i].weight;
  if (options.top_p < 1.0 || options.min_p > 0.0) {
    double sum = 0.0;
    index_t n = 0;
    while (n < kept && (n == 0 || ((options.top_p >= 1.0 || sum < options.top_p * total) &&
                                   queue[n].weight >= options.min_p * queue[0].weight))) {
      sum += queue[n++].weight;
    }
    kept = n;
    total = sum;
  }
  const double target = uniform * total;
  double sum = 0.0;
  token_t drawn = best.id;
  for (index_t i = 0; i < kept; ++i) {
    sum += queue[i].weight;
    if (queue[i].weight > 0.0) drawn = queue[i].id;  // rounding may leave the target out of reach: then the last one
    if (sum > target) break;
  }
  return drawn;
}

}  // namespace cpu

template <cpu::Real T>
struct kernel<op::sample, Cpu, T> {
  /// out (rows) ids, or no_sample; logits (rows, vocab). With a history each token is also stored there.
  static void run(const Cpu& device, token_t* out, MatrixView<const T> logits, const SampleRequest& request) {
    const index_t vocab = logits.cols;
    const index_t threads = cpu::thread_count(device);
    auto scratch = device.scratch();
    auto* const values = scratch.template take<double>(threads * vocab);                    // (threads, vocab)
    auto* const candidates = scratch.template take<cpu::SampleCandidate>(threads * vocab);  // (threads, vocab)
    cpu::parallel_for(device, logits.rows, [&](index_t r) {
      const index_t buffer = cpu::thread_index() * vocab;
      const index_t count =
          cpu::sample_candidates(logits.row(r), vocab, request, r, values + buffer, candidates + buffer);
      out[r] = no_sample;
      if (count <= 0) return;
      const double uniform = sample_uniform(request.options.seed, request.stories[r], request.positions[r]);
      out[r] = cpu::draw_sample(candidates + buffer, count, request.options, uniform);
      if (request.history != nullptr)
        request.history[request.slots[r] * request.capacity + request.positions[r]] = out[r];
    });
  }
  /// What follows a draw when the host does not look.
  static void advance(const Cpu& /*device*/, const StoryRows& stories, const token_t* out) {
    for (index_t r = 0; r < stories.rows; ++r) {
      stories.drawn[*stories.step * stories.rows + r] = out[r];
      if (out[r] != no_sample) stories.ids[r] = out[r];
      stories.positions[r] = stories.next[r];
      stories.next[r] = std::min(stories.next[r] + 1, stories.last);
    }
    ++*stories.step;
  }
};

}  // namespace storylm
