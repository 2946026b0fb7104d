// SPDX-License-Identifier: MIT
/// @file
/// @brief Backward of attention on the CPU for one key-value head of one sequence: probabilities are computed again
/// from the saved log of the sum of exponentials. T. Dao et al., arXiv:2205.14135.

/// With P the probabilities, F their dropout factors and D = rowsum(dy * y):
/// dV = (P F)^T dY, dS = P (F (dY V^T) - D), dQ = dS K, dK = dS^T Q. Sums run over tiles of keys, then heads of the
/// group, then blocks of queries, in this order. Scratch of one thread.
template <class T>
class AttentionBackward {
 public:
  [[nodiscard]] static index_t scratch_size(index_t width) { return attention_tile * (8 * width + 2 * attention_tile); }
  AttentionBackward(const AttentionCall<T>& call, T* scratch) : call_(call) {
    const auto take = [&](index_t n) {
      T* p = scratch;
      scratch += attention_tile * n;
      return p;
    };
    queries_ = take(call.width);
    doutputs_ = take(call.width);
    keys_ = take(call.width);
    keys_transposed_ = take(call.width);
    values_transposed_ = take(call.width);
    dqueries_ = take(call.width);
    dkeys_ = take(call.width);
    dvalues_ = take(call.width);
    probabilities_ = take(attention_tile);
    dscores_ = take(attention_tile);
  }

  /// dqkv: overwrites the columns of kv head `kv` and of its query heads in the rows of `sequence`.
  void run(MatrixView<T> dqkv, MatrixView<const T> dy, const T* lse, const T* dot, index_t sequence, index_t kv) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t length = call_.batch.offsets[sequence + 1] - begin;
    const index_t group = spec.heads / spec.kv_heads;
    for (index_t r = 0; r < length; ++r) {
      std::fill_n(dqkv.row(begin + r) + kv * group * spec.head_dim, group * spec.head_dim, T{0});
    }
    for (index_t key = 0; key < length; key += attention_tile) {
      const index_t count = std::min(attention_tile, length - key);
      const T* k = call_.key(begin + key, kv);
      transpose_tile(keys_transposed_, k, call_.qkv.stride, count, spec.head_dim);
      transpose_tile(values_transposed_, call_.value(begin + key, kv), call_.qkv.stride, count, spec.head_dim);
      copy_tile(keys_, call_.width, k, call_.qkv.stride, count, spec.head_dim, T{1});
      std::fill_n(dkeys_, attention_tile * call_.width, T{0});
      std::fill_n(dvalues_, attention_tile * call_.width, T{0});
      // The last key of the tile is seen by queries before last + window.
      const index_t end = spec.window > 0 ? std::min(length, key + count - 1 + spec.window) : length;
      for (index_t head = kv * group; head < (kv + 1) * group; ++head) {
        for (index_t first = key; first < end; first += attention_tile) {
          add_block(dqkv, dy, lse, dot, sequence, head, first, key, count);
        }
      }
      for (index_t j = 0; j < count; ++j) {
        T* dk = dqkv.row(begin + key + j) + spec.q_width() + kv * spec.head_dim;
        std::copy_n(dkeys_ + j * call_.width, spec.head_dim, dk);
        std::copy_n(dvalues_ + j * call_.width, spec.head_dim, dk + spec.kv_width());
      }
    }
  }

 private:
  void add_block(MatrixView<T> dqkv, MatrixView<const T> dy, const T* lse, const T* dot, index_t sequence, index_t head,
                 index_t first, index_t first_key, index_t keys) const {
    const AttentionSpec& spec = call_.spec;
    const index_t width = call_.width;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t count = std::min(attention_tile, call_.batch.offsets[sequence + 1] - begin - first);
    copy_tile(queries_, width, call_.query(begin + first, head), call_.qkv.stride, count, spec.head_dim, call_.scale);
    copy_tile(doutputs_, width, dy.row(begin + first) + head * spec.head_dim, dy.stride, count, spec.head_dim, T{1});
    for (index_t i = 0; i < count; i += strip_rows) {
      const index_t end = visible_keys(first + i + strip_rows - 1, first_key, keys, 0).end;
      const index_t columns = padded_to_vectors<T>(end);
      T* p = probabilities_ + i * attention_tile;
      T* ds = dscores_ + i * attention_tile;
      for (index_t r = 0; r < strip_rows; ++r) {
        std::fill_n(p + r * attention_tile, attention_tile, T{0});
        std::fill_n(ds + r * attention_tile, attention_tile, T{0});
      }
      strip_product<T>(p, attention_tile, {queries_ + i * width, width, 1}, keys_transposed_, attention_tile,
                       spec.head_dim, columns);
      strip_product<T>(ds, attention_tile, {doutputs_ + i * width, width, 1}, values_transposed_, attention_tile,
                       spec.head_dim, columns);
      for (index_t r = i; r < i + strip_rows; ++r) {
        const index_t at = (begin + first + r) * spec.heads + head;
        const VisibleKeys visible =
            r < count ? visible_keys(first + r, first_key, keys, spec.window) : VisibleKeys{0, 0};
        row_gradient(sequence, head, first + r, first_key, visible, columns, probabilities_ + r * attention_tile,
                     dscores_ + r * attention_tile, r < count ? lse[at] : T{0}, r < count ? dot[at] : T{0});
      }
      if (end > 0) add_dquery(dqkv, begin + first + i, std::min(strip_rows, count - i), head, i, end);
    }
    // Transposed products: rows are keys, k runs over the queries that see one of them.
    for (index_t j = 0; j < keys; j += strip_rows) {
      const index_t from = std::max<index_t>(0, first_key + j - first);
      const index_t to =
          spec.window > 0 ? std::min(count, first_key + j + strip_rows - 1 + spec.window - first) : count;
      if (from >= to) continue;
      const index_t at = from * attention_tile + j;
      strip_product<T>(dvalues_ + j * width, width, {probabilities_ + at, 1, attention_tile}, doutputs_ + from * width,
                       width, to - from, width);
      strip_product<T>(dkeys_ + j * width, width, {dscores_ + at, 1, attention_tile}, queries_ + from * width, width,
                       to - from, width);
    }
  }

  // In: p = scores, ds = dY V^T. Out: p = probabilities with dropout, ds = gradient of the scores.
  void row_gradient(index_t sequence, index_t head, index_t query, index_t first_key, VisibleKeys visible,
                    index_t columns, T* p, T* ds, T lse, T dot) const {
    for (index_t j = 0; j < columns; j += vector_lanes<T>) {
      for (index_t l = j; l < j + vector_lanes<T>; ++l) p[l] = exp(p[l] - lse);
    }
    fill_outside(p, visible, columns, T{0});
    fill_outside(ds, visible, columns, T{0});
    call_.drop(ds, sequence, query, head, first_key, visible);
    for (index_t j = 0; j < columns; j += vector_lanes<T>) store(ds + j, load(p + j) * (load(ds + j) - dot));
    call_.drop(p, sequence, query, head, first_key, visible);
  }

  void add_dquery(MatrixView<T> dqkv, index_t row, index_t count, index_t head, index_t i, index_t keys) const {
    const index_t width = call_.width;
    std::fill_n(dqueries_, strip_rows * width, T{0});
    strip_product<T>(dqueries_, width, {dscores_ + i * attention_tile, attention_tile, 1}, keys_, width, keys, width);
    for (index_t r = 0; r < count; ++r) {
      T* dq = dqkv.row(row + r) + head * call_.spec.head_dim;
      for (index_t c = 0; c < call_.spec.head_dim; ++c)
        dq[c] = multiply_add(dqueries_[r * width + c], call_.scale, dq[c]);
    }
  }

  const AttentionCall<T>& call_;
  T* queries_;            // (tile, width)     scaled
  T* doutputs_;           // (tile, width)
  T* keys_;               // (tile, width)
  T* keys_transposed_;    // (head_dim, tile)
  T* values_transposed_;  // (head_dim, tile)
  T* dqueries_;           // (strip_rows, width)
  T* dkeys_;              // (tile, width)
  T* dvalues_;            // (tile, width)
  T* probabilities_;      // (tile, tile)
  T* dscores_;            // (tile, tile)
};
