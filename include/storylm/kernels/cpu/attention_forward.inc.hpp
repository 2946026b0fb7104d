// SPDX-License-Identifier: MIT
/// @file
/// @brief Forward of attention on the CPU for one block of queries: softmax taken online, tile by tile.
///
/// M. Milakov and N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135.

/// One attention call: the arguments that its pieces share.
template <class T>
struct AttentionCall {
  MatrixView<const T> qkv;  // (tokens, qkv_width)
  AttentionSpec spec;
  PackedView batch;
  DropoutMask mask;
  T scale;
  index_t width;  ///< head_dim in whole vectors

  AttentionCall(MatrixView<const T> rows, const AttentionSpec& shape, const DropoutSpec& dropout,
                const PackedView& packed)
      : qkv(rows),
        spec(shape),
        batch(packed),
        mask(dropout),
        scale(T{1} / std::sqrt(static_cast<T>(shape.head_dim))),
        width(padded_to_vectors<T>(shape.head_dim)) {}

  [[nodiscard]] index_t kv_head(index_t head) const { return head / (spec.heads / spec.kv_heads); }
  [[nodiscard]] const T* query(index_t row, index_t head) const { return qkv.row(row) + head * spec.head_dim; }
  [[nodiscard]] const T* key(index_t row, index_t kv) const {
    return qkv.row(row) + spec.q_width() + kv * spec.head_dim;
  }
  [[nodiscard]] const T* value(index_t row, index_t kv) const { return key(row, kv) + spec.kv_width(); }
  /// Multiplies the visible elements of a row of probabilities (or what stands for them) by their dropout factors.
  void drop(T* row, index_t sequence, index_t query, index_t head, index_t first_key, VisibleKeys visible) const {
    if (!mask.active() || visible.begin == visible.end) return;
    alignas(vector_bytes) T factor[attention_tile];
    mask.factors(factor, batch.ordinals[sequence], static_cast<std::int32_t>(query), static_cast<std::uint32_t>(head),
                 first_key, visible.end);
    for (index_t j = visible.begin; j < visible.end; ++j) row[j] *= factor[j];
  }
};

/// Forward of up to attention_tile queries of one head, from position `first` of a sequence on. Scratch of one thread.
template <class T>
class AttentionForward {
 public:
  [[nodiscard]] static index_t scratch_size(index_t width) { return attention_tile * (4 * width + attention_tile + 2); }
  AttentionForward(const AttentionCall<T>& call, T* scratch)
      : call_(call),
        queries_(scratch),                                    // (tile, width)
        keys_(queries_ + attention_tile * call.width),        // (head_dim, tile)
        values_(keys_ + attention_tile * call.width),         // (tile, width)
        outputs_(values_ + attention_tile * call.width),      // (tile, width)
        scores_(outputs_ + attention_tile * call.width),      // (tile, tile)
        largest_(scores_ + attention_tile * attention_tile),  // (tile)
        sums_(largest_ + attention_tile) {}                   // (tile)

  void run(MatrixView<T> y, T* lse, index_t sequence, index_t head, index_t first) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t count = std::min(attention_tile, call_.batch.offsets[sequence + 1] - begin - first);
    copy_tile(queries_, call_.width, call_.query(begin + first, head), call_.qkv.stride, count, spec.head_dim,
              call_.scale);
    std::fill_n(outputs_, attention_tile * call_.width, T{0});
    std::fill_n(largest_, attention_tile, -std::numeric_limits<T>::infinity());
    std::fill_n(sums_, attention_tile, T{0});
    const index_t oldest = spec.window > 0 ? std::max<index_t>(0, first + 1 - spec.window) : 0;
    for (index_t key = oldest / attention_tile * attention_tile; key <= first; key += attention_tile) {
      add_tile(sequence, head, first, count, key);
    }
    for (index_t i = 0; i < count; ++i) {
      const T* from = outputs_ + i * call_.width;
      T* to = y.row(begin + first + i) + head * spec.head_dim;
      const T inverse = T{1} / sums_[i];
      for (index_t c = 0; c < spec.head_dim; ++c) to[c] = from[c] * inverse;
      lse[(begin + first + i) * spec.heads + head] = largest_[i] + std::log(sums_[i]);
    }
  }

 private:
  void add_tile(index_t sequence, index_t head, index_t first, index_t count, index_t first_key) const {
    const AttentionSpec& spec = call_.spec;
    const index_t width = call_.width;
    const index_t row = call_.batch.offsets[sequence] + first_key;
    const index_t keys = std::min(attention_tile, first + count - first_key);
    const index_t kv = call_.kv_head(head);
    transpose_tile(keys_, call_.key(row, kv), call_.qkv.stride, keys, spec.head_dim);
    copy_tile(values_, width, call_.value(row, kv), call_.qkv.stride, keys, spec.head_dim, T{1});
    for (index_t i = 0; i < count; i += strip_rows) {
      const index_t end = visible_keys(first + i + strip_rows - 1, first_key, keys, 0).end;
      const index_t begin = visible_keys(first + i, first_key, keys, spec.window).begin;
      if (begin >= end) continue;
      const index_t columns = padded_to_vectors<T>(end);
      T* scores = scores_ + i * attention_tile;
      for (index_t r = 0; r < strip_rows; ++r) std::fill_n(scores + r * attention_tile, columns, T{0});
      strip_product<T>(scores, attention_tile, {queries_ + i * width, width, 1}, keys_, attention_tile, spec.head_dim,
                       columns);
      for (index_t r = i; r < i + strip_rows; ++r) add_row(sequence, head, first + r, r, first_key, keys, columns);
      strip_product<T>(outputs_ + i * width, width, {scores + begin, attention_tile, 1}, values_ + begin * width, width,
                       end - begin, width);
    }
  }

  // Scores of one row become probabilities relative to the largest so far; what was summed before is rescaled to it.
  void add_row(index_t sequence, index_t head, index_t query, index_t r, index_t first_key, index_t keys,
               index_t columns) const {
    const VisibleKeys visible = visible_keys(query, first_key, keys, call_.spec.window);
    T* row = scores_ + r * attention_tile;
    if (visible.begin == visible.end) {
      std::fill_n(row, columns, T{0});
      return;
    }
    fill_outside(row, visible, columns, -std::numeric_limits<T>::infinity());
    const T largest = row_max(row, columns, largest_[r]);
    const T correction = exp(largest_[r] - largest);
    const T sum = row_exp(row, columns, largest);
    sums_[r] = multiply_add(sums_[r], correction, sum);
    if (largest_[r] != largest)
      row_scale(outputs_ + r * call_.width, outputs_ + r * call_.width, call_.width, correction);
    largest_[r] = largest;
    call_.drop(row, sequence, query, head, first_key, visible);
  }

  const AttentionCall<T>& call_;
  T* queries_;
  T* keys_;
  T* values_;
  T* outputs_;
  T* scores_;
  T* largest_;
  T* sums_;
};
