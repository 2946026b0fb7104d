// SPDX-License-Identifier: MIT
/// @file
/// @brief Backward of attention on the CPU for one key-value head of one sequence: probabilities are computed again
/// from the saved log of the sum of exponentials. T. Dao et al., arXiv:2205.14135.

/// With P the probabilities, F their dropout factors and D = rowsum(dy * y):
/// dV = (P F)^T dY, dS = P (F (dY V^T) - D), dQ = scale dS K, dK = scale dS^T Q. Sums run over blocks of queries within
/// heads of the group for keys and values, over tiles of keys for queries, in this order. Scratch of one thread.
template <class T>
class AttentionBackward {
 public:
  using A = accumulator_t<T>;
  using U = TileUnit<T>;

  [[nodiscard]] static index_t scratch_size(const AttentionCall<T>& call) {
    return attention_tile * (4 * call.units + 5 * call.width + 3 * strip_rows + 2 * attention_tile) +
           padded_rows(call) * (call.width + 1);
  }
  AttentionBackward(const AttentionCall<T>& call, A* scratch) : call_(call) {
    const auto take = [&]<class X>(X*& to, index_t rows, index_t n) {
      to = reinterpret_cast<X*>(scratch);  // X is as large as A
      scratch += rows * n;
    };
    take(queries_, attention_tile, call.units);
    take(doutputs_, attention_tile, call.units);
    take(keys_transposed_, attention_tile, call.units);
    take(values_transposed_, attention_tile, call.units);
    take(stacked_queries_, attention_tile, call.width);
    take(stacked_doutputs_, attention_tile, call.width);
    take(stacked_keys_, attention_tile, call.width);
    take(dkeys_, attention_tile, call.width);
    take(dvalues_, attention_tile, call.width);
    take(scores_, attention_tile, strip_rows);
    take(dprobabilities_, attention_tile, strip_rows);
    take(dscores_, attention_tile, strip_rows);
    take(stacked_probabilities_, attention_tile, attention_tile);
    take(stacked_dscores_, attention_tile, attention_tile);
    take(dqueries_, padded_rows(call), call.width);
    take(dots_, padded_rows(call), 1);
  }

  /// dqkv: overwrites the columns of kv head `kv` and of its query heads in the rows of `sequence`.
  void run(MatrixView<T> dqkv, MatrixView<const T> dy, MatrixView<const T> y, const A* lse, index_t sequence,
           index_t kv) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t length = call_.batch.offsets[sequence + 1] - begin;
    const index_t padded = padded_length(length);
    const index_t group = spec.heads / spec.kv_heads;
    std::fill_n(dqueries_, group * padded * call_.width, A{0});
    for (index_t head = 0; head < group; ++head) {
      const index_t column = (kv * group + head) * spec.head_dim;
      for (index_t r = 0; r < length; ++r) {
        dots_[head * padded + r] =
            row_dot<A>(dy.row(begin + r) + column, y.row(begin + r) + column, spec.head_dim);
      }
    }
    for (index_t key = 0; key < length; key += attention_tile) {
      const index_t count = std::min(attention_tile, length - key);
      const T* k = call_.key(begin + key, kv);
      transpose_tile(keys_transposed_, k, call_.qkv.stride, count, spec.head_dim);
      transpose_tile(values_transposed_, call_.value(begin + key, kv), call_.qkv.stride, count, spec.head_dim);
      stack_tile(stacked_keys_, call_.width, k, call_.qkv.stride, count, spec.head_dim);
      std::fill_n(dkeys_, attention_tile * call_.width, A{0});
      std::fill_n(dvalues_, attention_tile * call_.width, A{0});
      // The last key of the tile is seen by queries before last + window.
      const index_t end = spec.window > 0 ? std::min(length, key + count - 1 + spec.window) : length;
      for (index_t head = 0; head < group; ++head) {
        for (index_t first = key; first < end; first += attention_tile) {
          const index_t at = head * padded + first;
          add_block(dy, lse, dots_ + at, dqueries_ + at * call_.width, sequence, kv * group + head, first, key, count);
        }
      }
      for (index_t j = 0; j < count; ++j) {
        T* dk = dqkv.row(begin + key + j) + spec.q_width() + kv * spec.head_dim;
        store_row(dk, dkeys_ + j * call_.width, call_.scale);
        store_row(dk + spec.kv_width(), dvalues_ + j * call_.width, A{1});
      }
    }
    for (index_t head = 0; head < group; ++head) {
      for (index_t r = 0; r < length; ++r) {
        store_row(dqkv.row(begin + r) + (kv * group + head) * spec.head_dim,
                  dqueries_ + (head * padded + r) * call_.width, call_.scale);
      }
    }
  }

 private:
  [[nodiscard]] static index_t padded_length(index_t length) {
    return (length + attention_tile - 1) / attention_tile * attention_tile;
  }
  /// Rows of queries that a piece can have.
  [[nodiscard]] static index_t padded_rows(const AttentionCall<T>& call) {
    return call.spec.heads / call.spec.kv_heads * padded_length(call.batch.longest);
  }

  void store_row(T* to, const A* from, A factor) const {
    for_each_vector<A>(call_.spec.head_dim,
                       [&](index_t c, auto which) { store_as<A>(to + c, load(from + c) * factor, which); });
  }

  // dots (tile) and dqueries (tile, width) are those of the block of queries.
  void add_block(MatrixView<const T> dy, const A* lse, const A* dots, A* dqueries, index_t sequence, index_t head,
                 index_t first, index_t first_key, index_t keys) const {
    constexpr index_t depth = unit_depth<U>;
    const AttentionSpec& spec = call_.spec;
    const index_t width = call_.width;
    const index_t units = call_.units;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t count = std::min(attention_tile, call_.batch.offsets[sequence + 1] - begin - first);
    const T* q = call_.query(begin + first, head);
    const T* g = dy.row(begin + first) + head * spec.head_dim;
    copy_tile(queries_, units, q, call_.qkv.stride, count, spec.head_dim);
    copy_tile(doutputs_, units, g, dy.stride, count, spec.head_dim);
    stack_tile(stacked_queries_, width, q, call_.qkv.stride, count, spec.head_dim);
    stack_tile(stacked_doutputs_, width, g, dy.stride, count, spec.head_dim);
    for (index_t i = 0; i < count; i += strip_rows) {
      const index_t end = visible_keys(first + i + strip_rows - 1, first_key, keys, 0).end;
      const index_t columns = padded_to_vectors<A>(end);
      if (visible_keys(first + i, first_key, keys, spec.window).begin >= end) continue;
      strip_product<Sums::begin, A, U>(scores_, attention_tile, {queries_ + i * units, units, 1}, keys_transposed_,
                                       attention_tile, call_.head_units(), columns);
      strip_product<Sums::begin, A, U>(dprobabilities_, attention_tile, {doutputs_ + i * units, units, 1},
                                       values_transposed_, attention_tile, call_.head_units(), columns);
      for (index_t r = i; r < i + strip_rows; r += depth) {
        const index_t rows = std::clamp<index_t>(count - r, 0, depth);
        add_rows(lse + (begin + first + r) * spec.heads + head, dots + r, rows, sequence, head, first, r, first_key,
                 keys, columns);
      }
      strip_product<Sums::go_on, A, U>(dqueries + i * width, width, {dscores_, attention_tile, 1}, stacked_keys_, width,
                                       (end + depth - 1) / depth, width);
    }
    // Transposed products: rows are keys, the sum runs over the queries that see one of them.
    for (index_t j = 0; j < keys; j += strip_rows) {
      const index_t from = std::max<index_t>(0, first_key + j - first) / depth;
      const index_t seen = spec.window > 0 ? first_key + j + strip_rows - 1 + spec.window - first : count;
      const index_t to = (std::min(count, seen) + depth - 1) / depth;
      if (from >= to) continue;
      const index_t at = from * attention_tile + j;
      strip_product<Sums::go_on, A, U>(dvalues_ + j * width, width, {stacked_probabilities_ + at, 1, attention_tile},
                                       stacked_doutputs_ + from * width, width, to - from, width);
      strip_product<Sums::go_on, A, U>(dkeys_ + j * width, width, {stacked_dscores_ + at, 1, attention_tile},
                                       stacked_queries_ + from * width, width, to - from, width);
    }
  }

  // As many rows as a unit has, from r on, of which `rows` exist: probabilities with dropout and gradients of the
  // scores from scores and dY V^T.
  void add_rows(const A* lse, const A* dots, index_t rows, index_t sequence, index_t head, index_t first, index_t r,
                index_t first_key, index_t keys, index_t columns) const {
    constexpr index_t lanes = vector_lanes<A>;
    constexpr int depth = unit_depth<U>;
    const A* s = scores_ + r % strip_rows * attention_tile;
    const A* dp = dprobabilities_ + r % strip_rows * attention_tile;
    U* ds = dscores_ + r % strip_rows * attention_tile;
    const index_t stacked = r / depth * attention_tile;
    const Vector<A> scale = broadcast(call_.scale);
    Vector<A> shift[depth] = {};
    Vector<A> dot[depth] = {};
    for (int h = 0; h < depth; ++h) {
      const VisibleKeys visible =
          h < rows ? visible_keys(first + r + h, first_key, keys, call_.spec.window) : VisibleKeys{0, 0};
      fill_outside(scores_ + (r % strip_rows + h) * attention_tile, visible, columns,
                   -std::numeric_limits<A>::infinity());
      fill_outside(dprobabilities_ + (r % strip_rows + h) * attention_tile, visible, columns, A{0});
      if (h >= rows) continue;
      shift[h] = broadcast(-lse[h * call_.spec.heads]);
      dot[h] = broadcast(dots[h]);
    }
    for (index_t block = 0; block < columns; block += dropout_columns) {
      DropoutFactors<A> factors[depth];
      unrolled<depth>([&](auto h) { factors[h] = call_.factors(sequence, first + r + h, head, first_key + block); });
      unrolled<DropoutFactors<A>::parts / depth>([&](auto unit) {
        const index_t at = block + unit * depth * lanes;
        if (at >= columns) return;
        Vector<A> kept[depth][depth] = {};  // (row, part)
        Vector<A> gradient[depth][depth] = {};
        unrolled<depth>([&](auto part) {
          const index_t j = at + part * lanes;
          if (j >= columns) return;
          unrolled<depth>([&](auto h) {
            const Vector<A> p = exp(multiply_add(load(s + h * attention_tile + j), scale, shift[h]));
            const Vector<A> factor = factors[h].part[unit * depth + part];
            kept[h][part] = p * factor;
            gradient[h][part] = p * (load(dp + h * attention_tile + j) * factor - dot[h]);
          });
          store(stacked_probabilities_ + stacked + j, stacked_units<U, A>(kept, part));
          store(stacked_dscores_ + stacked + j, stacked_units<U, A>(gradient, part));
        });
        unrolled<depth>([&](auto h) {
          store(ds + h * attention_tile + at / depth, adjacent_units<U, A>(gradient[h]));
        });
      });
    }
  }

  const AttentionCall<T>& call_;
  U* queries_;                // (tile, units)
  U* doutputs_;               // (tile, units)
  U* keys_transposed_;        // (units, tile)
  U* values_transposed_;      // (units, tile)
  U* stacked_queries_;        // (tile in units, width)
  U* stacked_doutputs_;       // (tile in units, width)
  U* stacked_keys_;           // (tile in units, width)
  A* dkeys_;                  // (tile, width)
  A* dvalues_;                // (tile, width)
  A* scores_;                 // (strip_rows, tile)
  A* dprobabilities_;         // (strip_rows, tile)
  U* dscores_;                // (strip_rows, tile)
  U* stacked_probabilities_;  // (tile in units, tile)
  U* stacked_dscores_;        // (tile in units, tile)
  A* dqueries_;               // (heads of the group, padded length, width)
  A* dots_;                   // (heads of the group, padded length)
};
