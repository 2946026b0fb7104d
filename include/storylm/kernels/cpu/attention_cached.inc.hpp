// SPDX-License-Identifier: MIT
/// @file
/// @brief Attention with a cache of keys and values on the CPU, for generation and scoring.
///
/// A row's head is computed by itself: scores as dot products along the head, softmax online over blocks of 64
/// positions that begin at multiples of 64, values added position by position, everything in the accumulator's type. So
/// its bits depend neither on the other rows of the batch nor on whether its predecessors came in this call or an
/// earlier one.
///
/// A row's heads go through a block together, for the keys of a position are neighbours in memory; while one head is
/// computed, the next one's are fetched. Narrower rows and caches are widened as they are read.

/// Fetches a head's part of a key or value.
template <class TKV>
[[gnu::always_inline]] inline void fetch_cached(const TKV* p, index_t head_dim) {
  for (index_t c = 0; c < head_dim; c += 64 / static_cast<index_t>(sizeof(TKV))) fetch(p + c);
}

/// scores[first + l] = query . key of position first + l, for a vector of positions; where that is not visible, of the
/// nearest that is. query in whole vectors. `ahead`: elements from a key to the one that is read next.
template <class A, class TKV>
inline void cached_scores(A* scores, index_t first, const A* query, const TKV* keys, index_t stride,
                          VisibleKeys visible, index_t head_dim, index_t ahead) {
  constexpr int lanes = vector_lanes<A>;
  const TKV* key[lanes];
  for (index_t l = 0; l < lanes; ++l) {
    key[l] = keys + std::clamp(first + l, visible.begin, visible.end - 1) * stride;
    fetch_cached(key[l] + ahead, head_dim);
  }
  Vector<A> sums[lanes] = {};
  for_each_vector<A>(
      head_dim, [&](index_t c, auto which) __attribute__((always_inline)) {
        const Vector<A> q = load(query + c);
        unrolled<lanes>([&](auto l) { sums[l] = multiply_add(q, load_as<A>(key[l] + c, which), sums[l]); });
      });
  store(scores + first, lane_sums<A, lanes>(sums));
}

/// out = out * correction + the sum of weights[j] * values[j] over the visible, for Vectors vectors of columns.
template <int Vectors, class A, class TKV, class Which>
inline void cached_values(A* out, A correction, const A* weights, const TKV* values, index_t stride,
                          VisibleKeys visible, Which which) {
  constexpr index_t lanes = vector_lanes<A>;
  Vector<A> sums[Vectors];
  unrolled<Vectors>([&](auto v) { sums[v] = load(out + v * lanes) * correction; });
  for (index_t j = visible.begin; j < visible.end; ++j) {
    const Vector<A> weight = broadcast<A>(weights[j]);
    const TKV* const value = values + j * stride;
    unrolled<Vectors>([&](auto v) { sums[v] = multiply_add(weight, load_as<A>(value + v * lanes, which), sums[v]); });
  }
  unrolled<Vectors>([&](auto v) { store(out + v * lanes, sums[v]); });
}

/// Some heads of one row against the cached keys and values of its sequence, in a thread's scratch.
template <class T, class TKV>
class CachedAttention {
 public:
  using A = accumulator_t<T>;

  CachedAttention(const AttentionSpec& spec, A* scratch)
      : spec_(spec),
        width_(padded_to_vectors<A>(spec.head_dim)),
        queries_(scratch),                      // (heads, width)
        outs_(queries_ + spec.heads * width_),  // (heads, width)
        largest_(outs_ + spec.heads * width_),  // (heads)
        sums_(largest_ + spec.heads),           // (heads)
        scores_(sums_ + spec.heads) {}          // (attention_tile)

  [[nodiscard]] static index_t scratch_size(const AttentionSpec& spec) {
    return 2 * spec.heads * (padded_to_vectors<A>(spec.head_dim) + 1) + attention_tile;
  }

  /// The heads of y (q_width) that belong to kv heads [first, last), from the positions in [oldest, position]; keys and
  /// values begin at position 0.
  void run(T* y, const T* query, const TKV* keys, const TKV* values, index_t first, index_t last, index_t oldest,
           index_t position) const {
    const index_t group = spec_.heads / spec_.kv_heads;
    const index_t d = spec_.head_dim;
    const index_t stride = spec_.kv_width();
    for (index_t head = first * group; head < last * group; ++head) begin(head, query + head * d);
    for (index_t block = oldest / attention_tile * attention_tile; block <= position; block += attention_tile) {
      const VisibleKeys visible{std::max<index_t>(0, oldest - block), std::min(attention_tile, position + 1 - block)};
      for (index_t kv_head = first; kv_head < last; ++kv_head) {
        const index_t at = block * stride + kv_head * d;
        const index_t ahead = kv_head + 1 < last ? d : attention_tile * stride - (last - 1 - first) * d;
        for (index_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          add(head, keys + at, values + at, stride, visible, ahead);
        }
      }
    }
    for (index_t head = first * group; head < last * group; ++head) end(head, y + head * d);
  }

 private:
  void begin(index_t head, const T* query) const {
    const Vector<A> scale = broadcast(A{1} / std::sqrt(static_cast<A>(spec_.head_dim)));
    for_each_vector<A>(spec_.head_dim, [&](index_t c, auto which) {
      store(queries_ + head * width_ + c, load_as<A>(query + c, which) * scale);
    });
    std::fill_n(outs_ + head * width_, width_, A{0});
    largest_[head] = -std::numeric_limits<A>::infinity();
    sums_[head] = A{0};
  }

  /// One block of keys and values.
  void add(index_t head, const TKV* keys, const TKV* values, index_t stride, VisibleKeys visible, index_t ahead) const {
    constexpr index_t lanes = vector_lanes<A>;
    const index_t d = spec_.head_dim;
    for (index_t j = visible.begin / lanes * lanes; j < visible.end; j += lanes) {
      cached_scores(scores_, j, queries_ + head * width_, keys, stride, visible, d, ahead);
    }
    fill_outside(scores_, visible, attention_tile, -std::numeric_limits<A>::infinity());
    const A largest = row_max(scores_, attention_tile, largest_[head]);
    const A correction = exp(largest_[head] - largest);
    sums_[head] = multiply_add(sums_[head], correction, row_exp(scores_, attention_tile, largest));
    largest_[head] = largest;

    for (index_t j = visible.begin; j < visible.end; ++j) fetch_cached(values + j * stride + ahead, d);
    A* const out = outs_ + head * width_;
    index_t c = 0;
    for (; c + 4 * lanes <= d; c += 4 * lanes) {
      cached_values<4>(out + c, correction, scores_, values + c, stride, visible, AllLanes{});
    }
    for_each_vector<A>(d - c, [&](index_t i, auto which) {
      cached_values<1>(out + c + i, correction, scores_, values + c + i, stride, visible, which);
    });
  }

  void end(index_t head, T* y) const {
    const Vector<A> inverse = broadcast(A{1} / sums_[head]);
    for_each_vector<A>(spec_.head_dim, [&](index_t c, auto which) {
      store_as<A>(y + c, load(outs_ + head * width_ + c) * inverse, which);
    });
  }

  const AttentionSpec& spec_;
  index_t width_;
  A* queries_;
  A* outs_;
  A* largest_;
  A* sums_;
  A* scores_;
};

/// Any even head size; a cache of the rows' own dtype, or a narrower one beside float.
template <FloatDtype T, FloatDtype TKV>
requires(std::same_as<T, TKV> ||
         (std::same_as<T, float> && sizeof(TKV) == 2)) struct kernel<op::attention_cached, T, TKV> {
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> qkv, const KvView<TKV>& kv,
                  const AttentionSpec& spec, const PackedView& batch) {
    using A = accumulator_t<T>;
    const index_t width = spec.kv_width();
    const auto slot = [&](index_t row) { return index_t{kv.slots[batch.sequence[row]]} * kv.capacity * width; };
    // All rows are stored before any attends: a row sees its predecessors in the same call through the cache.
    parallel_blocks(device, batch.tokens, row_grain(2 * width), [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        const T* const key = qkv.row(row) + spec.q_width();
        const index_t at = slot(row) + index_t{batch.positions[row]} * width;
        for_each_vector<A>(width, [&](index_t c, auto which) {
          store_as<A>(kv.keys + at + c, load_as<A>(key + c, which), which);
          store_as<A>(kv.values + at + c, load_as<A>(key + width + c, which), which);
        });
      }
    });
    auto scratch = device.scratch();
    const index_t size = CachedAttention<T, TKV>::scratch_size(spec);
    A* const buffers = scratch.take<A>(size * thread_count(device));  // (threads, size)
    // Whole rows, unless they are too few for all threads. No bit depends on it.
    const index_t parts =
        std::clamp<index_t>(2 * thread_count(device) / std::max<index_t>(1, batch.tokens), 1, spec.kv_heads);
    parallel_for(device, batch.tokens * parts, [&](index_t piece) {
      const index_t row = piece / parts;
      const index_t part = piece % parts;
      const index_t position = batch.positions[row];
      const index_t oldest = spec.window > 0 ? std::max<index_t>(0, position + 1 - spec.window) : 0;
      const CachedAttention<T, TKV> attention(spec, buffers + size * thread_index());
      attention.run(y.row(row), qkv.row(row), kv.keys + slot(row), kv.values + slot(row), spec.kv_heads * part / parts,
                    spec.kv_heads * (part + 1) / parts, oldest, position);
    });
  }
};
