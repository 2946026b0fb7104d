// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sample on CUDA: the kernels.
///
/// A block draws from one row as the CPU's kernel does: from the most to the least probable token, weights and their
/// sums in double, in that order. It does not sort the vocabulary: it takes the most probable tokens in chunks of up to
/// 256, found by counting how many logits lie above a few thresholds, sorts a chunk, and goes on to the next only where
/// filters or the draw reach beyond it. Filters keep the first of this order, so all they need is how far it goes.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/reduce.cuh>
#include <storylm/kernels/cuda/sample.hpp>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

inline constexpr int sample_threads = 256;
inline constexpr int sample_room = sample_threads;  ///< tokens of a chunk: one a thread
inline constexpr int sample_enough = 32;            ///< a chunk of fewer is worth another look for a larger one
inline constexpr int sample_pivots = 4;             ///< thresholds that are tried at a time

/// A number that logits are compared with. Logits are floats, except the few that a penalty has changed, so that most
/// comparisons need no doubles.
struct SampleBound {
  double value;   ///< it
  float nearest;  ///< it, rounded
  int side;       ///< of `nearest`: below (-1), at (0) or above (1) the value

  __device__ __forceinline__ explicit SampleBound(double v)
      : value(v), nearest(static_cast<float>(v)), side((nearest > v ? 1 : 0) - (nearest < v ? 1 : 0)) {}
};

/// The logit of a token that may be drawn.
struct SampleLogit {
  float raw;     ///< as the model gave it
  double value;  ///< after the penalty, set only if that has changed it
  bool is_penalised;

  [[nodiscard]] __device__ __forceinline__ double exact() const {
    return is_penalised ? value : static_cast<double>(raw);
  }
  [[nodiscard]] __device__ __forceinline__ bool below(const SampleBound& b) const {
    return is_penalised ? value < b.value : raw < b.nearest || (b.side < 0 && raw == b.nearest);
  }
  [[nodiscard]] __device__ __forceinline__ bool above(const SampleBound& b) const {
    return is_penalised ? value > b.value : raw > b.nearest || (b.side > 0 && raw == b.nearest);
  }
  [[nodiscard]] __device__ __forceinline__ bool equals(const SampleBound& b) const {
    return is_penalised ? value == b.value : b.side == 0 && raw == b.nearest;
  }
};

/// One row of logits, with what is done to some of its tokens as bits in shared memory.
template <Element T>
struct SampleRow {
  const T* logits;
  int vocab;
  bool aligned;                    ///< groups of eight begin on 16-byte boundaries
  double penalty;                  ///< 1: none
  const std::uint32_t* penalised;  ///< (vocab / 32)
  const std::uint32_t* is_banned;  ///< (vocab / 32)

  /// f(id, logit) for every token of this thread that may be drawn; look(raw) before, for every token.
  template <class F, class Look>
  __device__ __forceinline__ void for_each(F f, Look look) const {
    for (int group = thread_index() * 8; group < vocab; group += sample_threads * 8) {
      constexpr float none = -std::numeric_limits<float>::infinity();
      float x[8];
      load8(logits + group, vocab - group, aligned && vocab - group >= 8, x, none);
      const std::uint32_t penalised_bits = penalised[group / 32] >> (group % 32);
      const std::uint32_t banned_bits = is_banned[group / 32] >> (group % 32);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        look(x[i]);
        if (x[i] == none || ((banned_bits >> i) & 1U) != 0U) continue;
        SampleLogit logit{.raw = x[i], .value = 0.0, .is_penalised = ((penalised_bits >> i) & 1U) != 0U};
        if (logit.is_penalised) {
          const auto raw = static_cast<double>(x[i]);
          logit.value = raw > 0.0 ? raw / penalty : raw * penalty;
        }
        f(group + i, logit);
      }
    }
  }
  template <class F>
  __device__ __forceinline__ void for_each(F f) const {
    for_each(f, [](float) {});
  }
};

/// Why tokens are walked over, most probable first.
enum class SampleWalk : std::uint8_t {
  weigh,   ///< for the weight of the k best
  filter,  ///< to see how many top-p and min-p leave
  draw,
};
/// What is to be done after a chunk.
enum class SampleStep : std::uint8_t {
  on,     ///< the next chunk
  again,  ///< the first one
  done,
};
/// How far a walk has come.
struct SampleProgress {
  SampleWalk walk;
  int kept;       ///< tokens that may be drawn, so far as is known
  token_t drawn;  ///< the last one passed
  double total;   ///< weight of all that may be drawn
  double sum;     ///< of those passed
};

/// What the threads of a block share.
struct SampleShared {
  SampleProgress progress;  ///< of thread 0
  SampleStep step;
  int count;                        ///< tokens in the chunk
  std::uint64_t last_key;           ///< of the least probable of the chunk
  token_t last_id;                  ///< and its id
  std::uint64_t keys[sample_room];  ///< as they come
  token_t ids[sample_room];         ///< as they come
  double weights[sample_room];      ///< the most probable first
  token_t sorted[sample_room];      ///< their ids
  int counts[sample_pivots][sample_threads / 32];
};

/// Integers in the order of the numbers; both zeros are one.
__device__ __forceinline__ std::uint64_t ordered(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x + 0.0);
  return bits ^ ((bits >> 63U) != 0U ? ~std::uint64_t{0} : std::uint64_t{1} << 63U);
}
__device__ __forceinline__ double from_ordered(std::uint64_t key) {
  return std::bit_cast<double>(key ^ ((key >> 63U) != 0U ? std::uint64_t{1} << 63U : ~std::uint64_t{0}));
}

/// The tokens that may be drawn, most probable first, a chunk at a time. All threads of the block call its functions
/// alike.
template <Element T>
class SampleChunks {
 public:
  __device__ __forceinline__ SampleChunks(const SampleRow<T>& row, const SamplerOptions& options, double best,
                                          double lowest, SampleShared& shared)
      : row_(row), options_(options), best_(best), lowest_(lowest), shared_(shared) {}

  /// next() will give the first chunk.
  __device__ __forceinline__ void restart() {
    first_ = size_ = 0;
    taken_ = SampleBound(std::numeric_limits<double>::infinity());
    taken_id_ = 0;
  }
  /// Tokens before the chunk.
  [[nodiscard]] __device__ __forceinline__ int first() const { return first_; }
  /// Tokens in it; 0 before the first next().
  [[nodiscard]] __device__ __forceinline__ int size() const { return size_; }

  /// Goes to the chunk that follows: shared.weights and shared.sorted are its tokens.
  __device__ void next() {
    first_ += size_;
    double largest = best_;
    if (first_ > 0) {
      double mine = -std::numeric_limits<double>::infinity();
      row_.for_each([&](int id, const SampleLogit& logit) {
        if (remains(id, logit) && logit.exact() > mine) mine = logit.exact();
      });
      largest = block_max(mine);
    }
    if (thread_index() == 0) shared_.count = 0;  // all have seen the last one, and will see this: a look has barriers
    double threshold = 0.0;
    if (find_threshold(largest, threshold)) {
      const SampleBound bound(threshold);
      collect([&](int /*id*/, const SampleLogit& logit) { return logit.above(bound); });
    } else {  // more equals than a chunk holds: the lowest ids among them
      const SampleBound bound(largest);
      int lowest_id = row_.vocab;
      row_.for_each([&](int id, const SampleLogit& logit) {
        if (id < lowest_id && remains(id, logit) && logit.equals(bound)) lowest_id = id;
      });
      lowest_id = -block_max(-lowest_id);
      collect([&](int id, const SampleLogit& logit) {
        return id >= lowest_id && id - lowest_id < sample_room && logit.equals(bound);
      });
    }
    sort();
  }

 private:
  /// Not in an earlier chunk.
  [[nodiscard]] __device__ __forceinline__ bool remains(int id, const SampleLogit& logit) const {
    return logit.below(taken_) || (id >= taken_id_ && logit.equals(taken_));
  }

  /// A threshold above which at least one and at most sample_room of the remaining logits lie, preferably not few;
  /// false when there is none. `largest` is the largest of them.
  __device__ bool find_threshold(double largest, double& threshold) {
    constexpr int most_looks = 4;  // for a larger chunk
    bool found = false;
    double too_low = lowest_;  // above it lie too many
    for (int look = 0;; ++look) {
      double pivots[sample_pivots];
      if (look == 0) {  // all of them; and where logits are spread like a normal distribution
        const double span = largest - lowest_;
        pivots[0] = -std::numeric_limits<double>::infinity();
        pivots[1] = largest - span * 0.36;
        pivots[2] = largest - span * 0.2;
        pivots[3] = largest - span * 0.06;
      } else {
        double share = 1.0;
        for (int p = 0; p < sample_pivots; ++p) {
          share *= 0.125;
          pivots[p] =
              found ? threshold + (too_low - threshold) * (0.2 * (p + 1)) : largest - (largest - too_low) * share;
        }
      }
      int counts[sample_pivots];
      count_above(pivots, counts);
      int count = 0;
      bool looked = false;
      for (int p = 0; p < sample_pivots; ++p) {
        if (!(pivots[p] < largest)) continue;
        looked = true;
        if (counts[p] > sample_room) {
          if (pivots[p] > too_low) too_low = pivots[p];
        } else if (!found || pivots[p] <= threshold) {
          found = true;
          threshold = pivots[p];
          count = counts[p];
        }
      }
      if (found && (count >= sample_enough || look + 1 >= most_looks || (look == 0 && counts[0] <= sample_room)))
        return true;
      if (!found && !looked) return false;
    }
  }

  /// counts[p] = how many of the remaining logits lie above pivots[p].
  __device__ __forceinline__ void count_above(const double (&pivots)[sample_pivots], int (&counts)[sample_pivots]) {
    const SampleBound bounds[sample_pivots] = {SampleBound(pivots[0]), SampleBound(pivots[1]), SampleBound(pivots[2]),
                                               SampleBound(pivots[3])};
#pragma unroll
    for (int p = 0; p < sample_pivots; ++p) counts[p] = 0;
    row_.for_each([&](int id, const SampleLogit& logit) {
      if (!remains(id, logit)) return;
#pragma unroll
      for (int p = 0; p < sample_pivots; ++p) counts[p] += logit.above(bounds[p]) ? 1 : 0;
    });
    sync_block();  // the counts before have been read
#pragma unroll
    for (int p = 0; p < sample_pivots; ++p) {
      counts[p] = warp_sum(counts[p]);
      if (lane_index() == 0) shared_.counts[p][warp_index()] = counts[p];
    }
    sync_block();
#pragma unroll
    for (int p = 0; p < sample_pivots; ++p) {
      counts[p] = 0;
#pragma unroll
      for (int w = 0; w < sample_threads / 32; ++w) counts[p] += shared_.counts[p][w];
    }
  }

  /// The remaining tokens that are wanted, in any order.
  template <class Wanted>
  __device__ __forceinline__ void collect(Wanted wanted) {
    row_.for_each([&](int id, const SampleLogit& logit) {
      if (!remains(id, logit) || !wanted(id, logit)) return;
      const int at = atomic_add(&shared_.count, 1);
      shared_.keys[at] = ordered(logit.exact());
      shared_.ids[at] = id;
    });
    sync_block();
  }

  /// Sorts the chunk, each thread a token by counting those before it; the last one is the end of what is taken.
  __device__ __forceinline__ void sort() {
    size_ = shared_.count;
    if (thread_index() < size_) {
      const std::uint64_t key = shared_.keys[thread_index()];
      const token_t id = shared_.ids[thread_index()];
      int rank = 0;
      for (int i = 0; i < size_; ++i) {
        const std::uint64_t other = shared_.keys[i];
        rank += other > key || (other == key && shared_.ids[i] < id) ? 1 : 0;
      }
      shared_.weights[rank] = sample_weight(options_, best_, from_ordered(key));
      shared_.sorted[rank] = id;
      if (rank == size_ - 1) {
        shared_.last_key = key;
        shared_.last_id = id;
      }
    }
    sync_block();
    if (size_ == 0) return;
    taken_ = SampleBound(from_ordered(shared_.last_key));
    taken_id_ = shared_.last_id + 1;
  }

  const SampleRow<T>& row_;
  const SamplerOptions& options_;
  double best_;
  double lowest_;
  SampleShared& shared_;
  int first_ = 0;
  int size_ = 0;
  SampleBound taken_{std::numeric_limits<double>::infinity()};  // of all tokens above it, and of its equals ...
  int taken_id_ = 0;                                            // ... those with lower ids
};

/// The walk that follows once the weight of all that may be drawn is known.
__device__ __forceinline__ SampleWalk first_walk_with_total(const SamplerOptions& options) {
  return options.top_p < 1.0 || options.min_p > 0.0 ? SampleWalk::filter : SampleWalk::draw;
}

/// By thread 0: goes over a chunk, token by token, and over the first one for every walk that it is enough for.
__device__ __forceinline__ SampleStep walk_chunk(int first, int size, const SampleRequest& request,
                                                 SampleShared& shared) {
  const SamplerOptions& options = request.options;
  SampleProgress p = shared.progress;
  SampleStep step = SampleStep::on;
  while (true) {
    const double target =
        p.walk != SampleWalk::draw
            ? 0.0
            : p.total * sample_uniform(options.seed, request.stories[block_x()], request.positions[block_x()]);
    bool is_over = false;
    int n = first;
    for (; n < p.kept && n < first + size; ++n) {
      const double weight = shared.weights[n - first];
      if (p.walk == SampleWalk::filter && n > 0) {
        is_over = (options.top_p < 1.0 && p.sum >= options.top_p * p.total) || weight < options.min_p;
        if (is_over) break;
      }
      p.sum += weight;
      if (p.walk != SampleWalk::draw) continue;
      if (n == 0 || weight > 0.0) p.drawn = shared.sorted[n - first];  // rounding may put the target out of reach:
      is_over = p.sum > target;                                        // then it is the last one
      if (is_over) break;
    }
    if (!is_over && n < p.kept) break;
    step = p.walk == SampleWalk::draw ? SampleStep::done : SampleStep::again;
    if (step == SampleStep::done) break;
    if (p.walk == SampleWalk::filter) p.kept = n;
    p.walk = p.walk == SampleWalk::weigh ? first_walk_with_total(options) : SampleWalk::draw;
    p.total = p.sum;
    p.sum = 0.0;
    if (first > 0) break;
    step = SampleStep::on;
  }
  shared.progress = p;
  return step;
}

/// A row's token, in thread 0.
template <Element T>
__device__ token_t draw_sample(const SampleRow<T>& row, const SampleRequest& request, SampleShared& shared) {
  const SamplerOptions& options = request.options;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  double best = -infinity;
  double lowest = infinity;
  int count = 0;
  bool valid = true;
  row.for_each(
      [&](int /*id*/, const SampleLogit& logit) {
        const double x = logit.exact();
        if (x > best) best = x;
        if (x < lowest) lowest = x;
        ++count;
      },
      [&](float raw) { valid &= raw < std::numeric_limits<float>::infinity(); });  // false for a NaN too
  if (block_max(valid ? 0 : 1) != 0) return no_sample;
  count = block_sum(count);
  if (count == 0) return no_sample;
  best = block_max(best);
  lowest = -block_max(-lowest);

  if (options.temperature == 0.0 || options.top_k == 1) {
    int id_of_best = row.vocab;
    const SampleBound bound(best);
    row.for_each([&](int id, const SampleLogit& logit) {
      if (id < id_of_best && logit.equals(bound)) id_of_best = id;
    });
    return -block_max(-id_of_best);
  }

  const bool some_are_left_out = options.top_k > 0 && options.top_k < count;
  double total = 0.0;
  if (!some_are_left_out) {  // by id: the improbable ones need not be sorted
    row.for_each([&](int /*id*/, const SampleLogit& logit) { total += sample_weight(options, best, logit.exact()); });
    total = block_sum(total);
  }
  if (thread_index() == 0) {
    shared.progress = {.walk = some_are_left_out ? SampleWalk::weigh : first_walk_with_total(options),
                       .kept = some_are_left_out ? static_cast<int>(options.top_k) : count,
                       .drawn = no_sample,
                       .total = total,
                       .sum = 0.0};
  }
  SampleChunks<T> chunks(row, options, best, lowest, shared);
  for (SampleStep step = SampleStep::on; step != SampleStep::done;) {
    if (step == SampleStep::again) chunks.restart();
    chunks.next();
    if (chunks.size() == 0) break;
    if (thread_index() == 0) shared.step = walk_chunk(chunks.first(), chunks.size(), request, shared);
    sync_block();
    step = shared.step;
  }
  return shared.progress.drawn;
}

/// A block draws from a row.
template <Element T>
__global__ void __launch_bounds__(sample_threads, 3)
    sample_kernel(token_t* out, MatrixView<const T> logits, const SampleRequest request, bool aligned) {
  const index_t r = block_x();
  const auto vocab = static_cast<int>(logits.cols);
  const int words = (vocab + 31) / 32;
  auto* const penalised = reinterpret_cast<std::uint32_t*>(dynamic_shared());  // (words)
  std::uint32_t* const banned = penalised + words;                             // (words)
  for (int i = thread_index(); i < 2 * words; i += sample_threads) penalised[i] = 0U;
  sync_block();
  const auto set = [](std::uint32_t* bits, token_t id) { atomic_or(bits + id / 32, 1U << (id % 32)); };
  if (request.options.repetition_penalty != 1.0) {
    const token_t* const story = request.history + request.slots[r] * request.capacity;
    for (int i = thread_index(); i < request.positions[r]; i += sample_threads) set(penalised, story[i]);
  }
  for (int i = thread_index(); i < request.banned_count; i += sample_threads) set(banned, request.banned[i]);
  sync_block();

  const SampleRow<T> row{.logits = logits.row(r),
                         .vocab = vocab,
                         .aligned = aligned,
                         .penalty = request.options.repetition_penalty,
                         .penalised = penalised,
                         .is_banned = banned};
  const token_t drawn = draw_sample(row, request, *shared_array<SampleShared, 1, SampleShared>());
  if (thread_index() != 0) return;
  out[r] = drawn;
  if (drawn != no_sample && request.history != nullptr)
    request.history[request.slots[r] * request.capacity + request.positions[r]] = drawn;
}

/// One block, so that `step` changes when all have read it. T only tells the kernels of one op apart.
template <Element T>
__global__ void __launch_bounds__(sample_threads) advance_stories_kernel(StoryRows stories, const token_t* out) {
  token_t* const drawn = stories.drawn + *stories.step * stories.rows;
  for (index_t r = thread_index(); r < stories.rows; r += sample_threads) {
    drawn[r] = out[r];
    if (out[r] != no_sample) stories.ids[r] = out[r];
    stories.positions[r] = stories.next[r];
    stories.next[r] = stories.next[r] < stories.last ? stories.next[r] + 1 : stories.last;
  }
  sync_block();
  if (thread_index() == 0) ++*stories.step;
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::sample, Cuda, T>::run(const Cuda& device, token_t* out, MatrixView<const T> logits,
                                      const SampleRequest& request) {
  const index_t words = cuda::ceil_divide(logits.cols, 32);
  cuda::launch(device, cuda::sample_kernel<T>, dim3(cuda::blocks_for(logits.rows, 1)), cuda::sample_threads,
               static_cast<std::size_t>(2 * words) * sizeof(std::uint32_t), out, logits, request,
               cuda::groups_aligned(logits.data, logits.stride));
}

template <cuda::Element T>
void kernel<op::sample, Cuda, T>::advance(const Cuda& device, const StoryRows& stories, const token_t* out) {
  cuda::launch(device, cuda::advance_stories_kernel<T>, dim3(1), cuda::sample_threads, 0, stories, out);
}

}  // namespace storylm
