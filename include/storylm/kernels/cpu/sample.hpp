// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sample on the CPU: one token per row.
///
/// Everything after the logits is double, and every sum runs in an order that depends on the row alone: tokens from the
/// most to the least probable, equal ones by id. Most draws need a few dozen of thousands: those above the largest of a
/// few dozen blocks of the row are looked at first, the others only when the draw comes so far.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
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

/// True when `a` is more probable.
[[nodiscard]] inline bool more_probable(const SampleCandidate& a, const SampleCandidate& b) {
  return less_probable(b, a);
}

/// What may be drawn of one row.
struct SampleRow {
  static constexpr index_t block = 64;  ///< logits that have their largest noted

  double* values;   ///< (vocab)   logits after the penalty, minus infinity for what is banned
  double* largest;  ///< (blocks)  of each block
  index_t vocab;
  index_t count = 0;  ///< of values that are not minus infinity

  /// Number of blocks.
  [[nodiscard]] static index_t blocks(index_t vocab) { return (vocab + block - 1) / block; }

  /// Reads the logits of row `at`; false when there is a NaN or plus infinity.
  template <class T>
  [[nodiscard]] bool read(const T* row, const SampleRequest& request, index_t at) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const auto logit_of = [row](index_t i) { return static_cast<double>(static_cast<accumulator_t<T>>(row[i])); };
    bool valid = true;
    for (index_t i = 0; i < vocab; ++i) {
      values[i] = logit_of(i);
      valid &= values[i] < infinity;  // false for a NaN too
    }
    if (!valid) return false;
    if (const double penalty = request.options.repetition_penalty; penalty != 1.0) {
      const token_t* story = request.history + request.slots[at] * request.capacity;
      for (std::int32_t i = 0; i < request.positions[at]; ++i) {
        const double logit = logit_of(story[i]);  // the row's own: a token seen twice is penalised once
        values[story[i]] = logit > 0.0 ? logit / penalty : logit * penalty;
      }
    }
    for (index_t i = 0; i < request.banned_count; ++i) values[request.banned[i]] = -infinity;
    for (index_t first = 0; first < vocab; first += block) {
      double top = -infinity;
      for (index_t i = first; i < std::min(vocab, first + block); ++i) {
        top = std::max(top, values[i]);
        count += values[i] > -infinity ? 1 : 0;
      }
      largest[first / block] = top;
    }
    return true;
  }

  /// The most probable. @pre count > 0
  [[nodiscard]] token_t best() const {
    const index_t first = (std::max_element(largest, largest + blocks(vocab)) - largest) * block;
    double* const end = values + std::min(vocab, first + block);
    return static_cast<token_t>(std::max_element(values + first, end) - values);  // the first of equal ones
  }

  /// Those with least <= value < below, to `out`; returns where they end. least: not minus infinity.
  SampleCandidate* gather(double least, double below, SampleCandidate* out) const {
    for (index_t first = 0; first < vocab; first += block) {
      if (largest[first / block] < least) continue;
      for (index_t i = first; i < std::min(vocab, first + block); ++i) {
        *out = {values[i], 0.0, static_cast<token_t>(i)};
        out += values[i] >= least && values[i] < below ? 1 : 0;  // behind the last there is room for one more
      }
    }
    return out;
  }
};

/// The candidates of one row, from the most to the least probable, as far as they are asked for; each with its weight.
template <class Weigh>
class SampleQueue {
 public:
  /// @param candidates room for one more than there are
  /// @param order room for the row's blocks
  /// @param expected how many will be asked for, roughly
  SampleQueue(const SampleRow& row, SampleCandidate* candidates, double* order, index_t expected, const Weigh& weigh)
      : row_(row), begin_(candidates), weigh_(weigh) {
    const index_t blocks = SampleRow::blocks(row.vocab);
    if (expected < blocks) {  // at least as many are not below the expected-th largest of the blocks' largest
      std::copy_n(row.largest, blocks, order);
      std::nth_element(order, order + expected - 1, order + blocks, std::greater<>());
      least_ = std::max(least_, order[expected - 1]);
    }
    end_ = row.gather(least_, std::numeric_limits<double>::infinity(), begin_);
  }
  /// The i-th most probable, counted from 0. @pre i < row.count
  [[nodiscard]] const SampleCandidate& operator[](index_t i) {
    while (sorted_ <= i) sort_more();
    for (; weighed_ <= i; ++weighed_) begin_[weighed_].weight = weigh_(begin_[weighed_].logit);
    return begin_[i];
  }

 private:
  /// Sorts as many again, at least.
  void sort_more() {
    if (sorted_ == end_ - begin_) {
      end_ = row_.gather(lowest, least_, end_);
      least_ = lowest;
    }
    SampleCandidate* const first = begin_ + sorted_;
    SampleCandidate* const last = first + std::min<index_t>(end_ - first, std::max<index_t>(2 * few, sorted_));
    if (last < end_) std::nth_element(first, last, end_, more_probable);
    std::sort(first, last, more_probable);
    sorted_ = last - begin_;
  }

  static constexpr index_t few = 64;
  static constexpr double lowest = std::numeric_limits<double>::lowest();

  const SampleRow& row_;
  SampleCandidate* begin_;
  SampleCandidate* end_;
  const Weigh& weigh_;
  double least_ = lowest;  ///< all that are not below it are there
  index_t sorted_ = 0;
  index_t weighed_ = 0;
};

/// Draws from a row. candidates (vocab + 1) and order (blocks) are scratch. @pre row.count > 0
inline token_t draw_sample(const SampleRow& row, SampleCandidate* candidates, double* order,
                           const SamplerOptions& options, double uniform) {
  const token_t best = row.best();
  if (options.temperature == 0.0 || options.top_k == 1) return best;
  const double best_logit = row.values[best];
  const auto weigh = [&](double logit) { return sample_weight(options, best_logit, logit); };
  constexpr index_t expected = 32;
  index_t kept = options.top_k > 0 ? std::min(options.top_k, row.count) : row.count;
  SampleQueue queue(row, candidates, order, kept < row.count ? kept : expected, weigh);
  double total = 0.0;
  if (kept == row.count) {  // by id: the improbable ones need not be sorted
    for (index_t i = 0; i < row.vocab; ++i) {
      if (row.values[i] > -std::numeric_limits<double>::infinity()) total += weigh(row.values[i]);
    }
  } else {
    for (index_t i = 0; i < kept; ++i) total += queue[i].weight;
  }
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
  token_t drawn = best;
  for (index_t i = 0; i < kept; ++i) {
    sum += queue[i].weight;
    if (queue[i].weight > 0.0) drawn = queue[i].id;  // rounding may leave the target out of reach: then the last one
    if (sum > target) break;
  }
  return drawn;
}

}  // namespace cpu

template <FloatDtype T>
struct kernel<op::sample, Cpu, T> {
  /// out (rows) ids, or no_sample; logits (rows, vocab). With a history each token is also stored there.
  static void run(const Cpu& device, token_t* out, MatrixView<const T> logits, const SampleRequest& request) {
    using cpu::SampleCandidate;
    using cpu::SampleRow;
    const index_t vocab = logits.cols;
    const index_t blocks = SampleRow::blocks(vocab);
    const index_t threads = cpu::thread_count(device);
    auto scratch = device.scratch();
    auto* const values = scratch.template take<double>(threads * (vocab + 2 * blocks));
    auto* const candidates = scratch.template take<SampleCandidate>(threads * (vocab + 1));
    cpu::parallel_for(device, logits.rows, [&](index_t r) {
      double* const own = values + cpu::thread_index() * (vocab + 2 * blocks);
      SampleRow row{.values = own, .largest = own + vocab, .vocab = vocab};
      out[r] = no_sample;
      if (!row.read(logits.row(r), request, r) || row.count == 0) return;
      const double uniform = sample_uniform(request.options.seed, request.stories[r], request.positions[r]);
      out[r] = cpu::draw_sample(row, candidates + cpu::thread_index() * (vocab + 1), own + vocab + blocks,
                                request.options, uniform);
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
