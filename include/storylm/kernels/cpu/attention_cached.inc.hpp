// SPDX-License-Identifier: MIT
/// @file
/// @brief Attention with a cache of keys and values on the CPU, for generation and scoring.
///
/// A row is computed by itself: scores as dot products along the head, softmax online over blocks of 64 positions that
/// begin at multiples of 64, values added position by position. So its bits depend neither on the other rows of the
/// batch nor on whether its predecessors came in this call or an earlier one.

/// A vector of T from cached values: where a narrower cache is widened.
template <class T, class TKV>
[[gnu::always_inline]] inline Vector<T> load_cached(const TKV* p) {
  constexpr std::size_t lanes = vector_lanes<T>;
  if constexpr (std::same_as<T, TKV>) {
    return load(p);
  } else if constexpr (std::same_as<TKV, bf16>) {
    static_assert(std::same_as<T, float>);
    using Halves [[gnu::vector_size(vector_bytes / 2)]] = std::uint16_t;
    using Words [[gnu::vector_size(vector_bytes)]] = std::uint32_t;
    Halves bits;
    std::memcpy(&bits, p, sizeof(bits));
    return reinterpret_cast<Vector<T>>(__builtin_convertvector(bits, Words) << 16U);
  } else {
    alignas(vector_bytes) T wide[lanes];
    for (std::size_t l = 0; l < lanes; ++l) wide[l] = static_cast<T>(p[l]);
    return load(wide);
  }
}

/// Of the first `count` only, zero behind them; reads nothing else.
template <class T, class TKV>
[[gnu::always_inline]] inline Vector<T> load_cached_first(const TKV* p, index_t count) {
  if (count >= vector_lanes<T>) return load_cached<T>(p);
  alignas(vector_bytes) T wide[vector_lanes<T>] = {};
  for (index_t l = 0; l < count; ++l) wide[l] = static_cast<T>(p[l]);
  return load(wide);
}

/// scores[j] = query . keys[j] for Count keys; query in whole vectors, zeros behind head_dim.
template <int Count, class T, class TKV>
inline void cached_scores(T* scores, const T* query, const TKV* keys, index_t stride, index_t head_dim) {
  Vector<T> sum[Count] = {};
  for (index_t c = 0; c < head_dim; c += vector_lanes<T>) {
    const Vector<T> q = load(query + c);
    unrolled<Count>(
        [&](auto j) { sum[j] = multiply_add(q, load_cached_first<T>(keys + j * stride + c, head_dim - c), sum[j]); });
  }
  const Vector<T> totals = lane_sums<T, Count>(sum);
  unrolled<Count>([&](auto j) { scores[j] = totals[int{j}]; });
}

/// out = out * correction + sum of weights[j] * values[j] over `count` values, for Vectors vectors of columns of which
/// `columns` elements exist.
template <int Vectors, class T, class TKV>
inline void cached_values(T* out, T correction, const T* weights, const TKV* values, index_t stride, index_t count,
                          index_t columns) {
  constexpr index_t lanes = vector_lanes<T>;
  Vector<T> sum[Vectors];
  unrolled<Vectors>([&](auto v) { sum[v] = load(out + v * lanes) * correction; });
  for (index_t j = 0; j < count; ++j) {
    const Vector<T> weight = broadcast<T>(weights[j]);
    unrolled<Vectors>([&](auto v) {
      sum[v] = multiply_add(weight, load_cached_first<T>(values + j * stride + v * lanes, columns - v * lanes), sum[v]);
    });
  }
  unrolled<Vectors>([&](auto v) { store(out + v * lanes, sum[v]); });
}

/// One query against the cached keys and values of one head. Scratch of one thread.
template <class T, class TKV>
class CachedQuery {
 public:
  CachedQuery(index_t head_dim, T* scratch)
      : head_dim_(head_dim),
        width_(padded_to_vectors<T>(head_dim)),
        query_(scratch),           // (width)
        out_(query_ + width_),     // (width)
        scores_(out_ + width_) {}  // (tile)

  [[nodiscard]] static index_t scratch_size(index_t head_dim) {
    return 2 * padded_to_vectors<T>(head_dim) + attention_tile;
  }

  /// y (head_dim) from the positions in [oldest, position]; keys and values begin at position 0.
  void run(T* y, const T* query, const TKV* keys, const TKV* values, index_t stride, index_t oldest,
           index_t position) const {
    const T scale = T{1} / std::sqrt(static_cast<T>(head_dim_));
    for (index_t c = 0; c < head_dim_; ++c) query_[c] = query[c] * scale;
    std::fill(query_ + head_dim_, query_ + width_, T{0});
    std::fill_n(out_, width_, T{0});
    T largest = -std::numeric_limits<T>::infinity();
    T sum{0};
    for (index_t block = oldest / attention_tile * attention_tile; block <= position; block += attention_tile) {
      const VisibleKeys visible{std::max<index_t>(0, oldest - block), std::min(attention_tile, position + 1 - block)};
      score(keys + block * stride, stride, visible);
      const T block_largest = row_max(scores_, attention_tile, largest);
      const T correction = exp(largest - block_largest);
      sum = multiply_add(sum, correction, row_exp(scores_, attention_tile, block_largest));
      largest = block_largest;
      add(values + block * stride, stride, visible, correction);
    }
    const T inverse = T{1} / sum;
    for (index_t c = 0; c < head_dim_; ++c) y[c] = out_[c] * inverse;
  }

 private:
  void score(const TKV* keys, index_t stride, VisibleKeys visible) const {
    constexpr int together = vector_lanes<T> < 4 ? vector_lanes<T> : 4;
    fill_outside(scores_, visible, attention_tile, -std::numeric_limits<T>::infinity());
    index_t j = visible.begin;
    for (; j + together <= visible.end; j += together) {
      cached_scores<together>(scores_ + j, query_, keys + j * stride, stride, head_dim_);
    }
    for (; j < visible.end; ++j) cached_scores<1>(scores_ + j, query_, keys + j * stride, stride, head_dim_);
  }

  void add(const TKV* values, index_t stride, VisibleKeys visible, T correction) const {
    constexpr index_t lanes = vector_lanes<T>;
    const TKV* first = values + visible.begin * stride;
    const T* weights = scores_ + visible.begin;
    const index_t count = visible.end - visible.begin;
    index_t c = 0;
    for (; c + 4 * lanes <= head_dim_; c += 4 * lanes) {
      cached_values<4>(out_ + c, correction, weights, first + c, stride, count, 4 * lanes);
    }
    for (; c < head_dim_; c += lanes) {
      cached_values<1>(out_ + c, correction, weights, first + c, stride, count, head_dim_ - c);
    }
  }

  index_t head_dim_;
  index_t width_;
  T* query_;
  T* out_;
  T* scores_;
};

/// Any even head size; a cache of the rows' own dtype, or a narrower one beside float.
template <class T, class TKV>
requires((std::same_as<T, float> && (std::same_as<TKV, float> || std::same_as<TKV, bf16> || std::same_as<TKV, half>)) ||
         (std::same_as<T, double> && std::same_as<TKV, double>)) struct kernel<op::attention_cached, T, TKV> {
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> qkv, const KvView<TKV>& kv,
                  const AttentionSpec& spec, const PackedView& batch) {
    const index_t width = spec.kv_width();
    const auto slot = [&](index_t row) { return index_t{kv.slots[batch.sequence[row]]} * kv.capacity * width; };
    // All rows are stored before any attends: a row sees its predecessors in the same call through the cache.
    parallel_blocks(device, batch.tokens, 16, [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        const T* from = qkv.row(row) + spec.q_width();
        const index_t at = slot(row) + index_t{batch.positions[row]} * width;
        for (index_t c = 0; c < width; ++c) kv.keys[at + c] = static_cast<TKV>(from[c]);
        for (index_t c = 0; c < width; ++c) kv.values[at + c] = static_cast<TKV>(from[width + c]);
      }
    });
    auto scratch = device.scratch();
    const index_t size = CachedQuery<T, TKV>::scratch_size(spec.head_dim);
    T* buffers = scratch.take<T>(size * thread_count(device));  // (threads, size)
    const index_t group = spec.heads / spec.kv_heads;
    // Neighbouring rows are mostly of one sequence: a few of them take turns at one head, whose keys then are at hand.
    constexpr index_t rows = 4;
    const index_t row_blocks = (batch.tokens + rows - 1) / rows;
    parallel_for(device, row_blocks * spec.kv_heads, [&](index_t piece) {
      const index_t kv_head = piece % spec.kv_heads;
      const index_t begin = piece / spec.kv_heads * rows;
      for (index_t row = begin; row < std::min(batch.tokens, begin + rows); ++row) {
        const index_t position = batch.positions[row];
        const index_t oldest = spec.window > 0 ? std::max<index_t>(0, position + 1 - spec.window) : 0;
        const index_t at = slot(row) + kv_head * spec.head_dim;
        const CachedQuery<T, TKV> query(spec.head_dim, buffers + size * thread_index());
        for (index_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          query.run(y.row(row) + head * spec.head_dim, qkv.row(row) + head * spec.head_dim, kv.keys + at,
                    kv.values + at, width, oldest, position);
        }
      }
    });
  }
};
