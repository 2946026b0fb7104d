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
    return padded_length(call.batch.longest) * (2 * call.units + 5 * call.width + 1) +
           attention_tile * (2 * call.units + call.width + 3 * strip_rows + 2 * attention_tile);
  }
  AttentionBackward(const AttentionCall<T>& call, A* scratch) : call_(call) {
    const auto take = [&]<class X>(X*& to, index_t rows, index_t n) {
      to = reinterpret_cast<X*>(scratch);  // X is as large as A
      scratch += rows * n;
    };
    const index_t length = padded_length(call.batch.longest);
    take(queries_, length, call.units);
    take(doutputs_, length, call.units);
    take(stacked_queries_, length, call.width);
    take(stacked_doutputs_, length, call.width);
    take(dqueries_, length, call.width);
    take(dkeys_, length, call.width);
    take(dvalues_, length, call.width);
    take(dots_, length, 1);
    take(keys_transposed_, attention_tile, call.units);
    take(values_transposed_, attention_tile, call.units);
    take(stacked_keys_, attention_tile, call.width);
    take(scores_, attention_tile, strip_rows);
    take(dprobabilities_, attention_tile, strip_rows);
    take(dscores_, attention_tile, strip_rows);
    take(stacked_probabilities_, attention_tile, attention_tile);
    take(stacked_dscores_, attention_tile, attention_tile);
    if constexpr (unit_depth<U> == 1) {  // nothing to stack: they are the same
      stacked_queries_ = queries_;
      stacked_doutputs_ = doutputs_;
    }
  }

  /// dqkv: overwrites the columns of kv head `kv` and of its query heads in the rows of `sequence`.
  void run(MatrixView<T> dqkv, MatrixView<const T> dy, MatrixView<const T> y, const A* lse, index_t sequence,
           index_t kv) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t length = call_.batch.offsets[sequence + 1] - begin;
    const index_t group = spec.heads / spec.kv_heads;
    std::fill_n(dkeys_, padded_length(length) * call_.width, A{0});
    std::fill_n(dvalues_, padded_length(length) * call_.width, A{0});
    for (index_t head = kv * group; head < (kv + 1) * group; ++head) {
      const index_t column = head * spec.head_dim;
      const auto rows = [&](MatrixView<const T> of) {
        return MatrixView<const T>(of.row(begin) + column, length, spec.head_dim, of.stride);
      };
      pack(queries_, stacked_queries_, rows(call_.qkv));
      pack(doutputs_, stacked_doutputs_, rows(dy));
      row_dots<A, T>(dots_, rows(dy), rows(y));
      std::fill_n(dqueries_, padded_length(length) * call_.width, A{0});
      for (index_t key = 0; key < length; key += attention_tile) {
        add_keys(lse + begin * spec.heads + head, sequence, head, kv, key);
      }
      store_rows(dqkv, begin, column, dqueries_, length, call_.scale);
    }
    store_rows(dqkv, begin, spec.q_width() + kv * spec.head_dim, dkeys_, length, call_.scale);
    store_rows(dqkv, begin, spec.q_width() + spec.kv_width() + kv * spec.head_dim, dvalues_, length, A{1});
  }

 private:
  [[nodiscard]] static index_t padded_length(index_t length) {
    return (length + attention_tile - 1) / attention_tile * attention_tile;
  }

  void pack(U* along, U* stacked, MatrixView<const T> rows) const {
    copy_tile(along, call_.units, rows.data, rows.stride, rows.rows, rows.cols);
    if (stacked != along) stack_tile(stacked, call_.width, rows.data, rows.stride, rows.rows, rows.cols);
  }

  void store_rows(MatrixView<T> to, index_t row, index_t column, const A* from, index_t rows, A factor) const {
    for (index_t r = 0; r < rows; ++r) {
      T* const out = to.row(row + r) + column;
      const A* const in = from + r * call_.width;
      for_each_vector<A>(call_.spec.head_dim,
                         [&](index_t c, auto which) { store_as<A>(out + c, load(in + c) * factor, which); });
    }
  }

  // A tile of keys with all blocks of queries that see one of them. lse is that of the sequence's first query.
  void add_keys(const A* lse, index_t sequence, index_t head, index_t kv, index_t key) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t length = call_.batch.offsets[sequence + 1] - begin;
    const index_t keys = std::min(attention_tile, length - key);
    const T* const k = call_.key(begin + key, kv);
    transpose_tile(keys_transposed_, k, call_.qkv.stride, keys, spec.head_dim);
    transpose_tile(values_transposed_, call_.value(begin + key, kv), call_.qkv.stride, keys, spec.head_dim);
    stack_tile(stacked_keys_, call_.width, k, call_.qkv.stride, keys, spec.head_dim);
    // The last key of the tile is seen by queries before last + window.
    const index_t end = spec.window > 0 ? std::min(length, key + keys - 1 + spec.window) : length;
    for (index_t first = key; first < end; first += attention_tile) {
      const ScoreTile tile{.sequence = sequence,
                           .head = head,
                           .first = first,
                           .queries = std::min(attention_tile, length - first),
                           .first_key = key,
                           .keys = keys};
      add_tile(lse + first * spec.heads, tile);
    }
  }

  // lse is that of the tile's first query.
  void add_tile(const A* lse, const ScoreTile& tile) const {
    constexpr index_t depth = unit_depth<U>;
    const index_t window = call_.spec.window;
    const index_t width = call_.width;
    const index_t units = call_.units;
    A ones[strip_rows];
    std::fill_n(ones, strip_rows, A{1});
    for (index_t i = 0; i < tile.queries; i += strip_rows) {
      const VisibleKeys visible = call_.visible_to_strip(tile, i);
      if (visible.begin >= visible.end) break;  // the window has passed the tile
      const index_t columns = padded_to_vectors<A>(visible.end);
      const index_t row = tile.first + i;
      strip_product<A, U>(scores_, attention_tile, nullptr, {queries_ + row * units, units, 1}, keys_transposed_,
                          attention_tile, call_.head_units(), columns);
      strip_product<A, U>(dprobabilities_, attention_tile, nullptr, {doutputs_ + row * units, units, 1},
                          values_transposed_, attention_tile, call_.head_units(), columns);
      for (index_t r = i; r < i + strip_rows; r += depth) add_rows(lse + r * call_.spec.heads, tile, r, columns);
      strip_product<A, U>(dqueries_ + row * width, width, ones, {dscores_, attention_tile, 1}, stacked_keys_, width,
                          (visible.end + depth - 1) / depth, width);
    }
    // Transposed products: rows are keys, the sum runs over the queries that see one of them.
    for (index_t j = 0; j < tile.keys; j += strip_rows) {
      const index_t key = tile.first_key + j - tile.first;  // counted as queries are
      const index_t end = window > 0 ? std::min(tile.queries, key + strip_rows - 1 + window) : tile.queries;
      const index_t from = std::max<index_t>(0, key) / depth;
      const index_t to = (end + depth - 1) / depth;
      if (from >= to) continue;
      const index_t at = from * attention_tile + j;
      const index_t begin = (tile.first / depth + from) * width;
      const index_t row = (tile.first_key + j) * width;
      strip_product<A, U>(dvalues_ + row, width, ones, {stacked_probabilities_ + at, 1, attention_tile},
                          stacked_doutputs_ + begin, width, to - from, width);
      strip_product<A, U>(dkeys_ + row, width, ones, {stacked_dscores_ + at, 1, attention_tile},
                          stacked_queries_ + begin, width, to - from, width);
    }
  }

  // As many rows as a unit has, from r on: probabilities with dropout and gradients of the scores from scores and
  // dY V^T. lse is that of row r.
  void add_rows(const A* lse, const ScoreTile& tile, index_t r, index_t columns) const {
    constexpr index_t lanes = vector_lanes<A>;
    constexpr int depth = unit_depth<U>;
    A* const s = scores_ + r % strip_rows * attention_tile;
    A* const dp = dprobabilities_ + r % strip_rows * attention_tile;
    U* const ds = dscores_ + r % strip_rows * attention_tile;
    const index_t stacked = r / depth * attention_tile;
    const Vector<A> scale = broadcast(call_.scale_log2);
    Vector<A> shift[depth] = {};
    Vector<A> dot[depth] = {};
    for (int h = 0; h < depth; ++h) {
      const bool exists = r + h < tile.queries;
      const VisibleKeys visible = exists ? call_.visible(tile, r + h) : VisibleKeys{0, 0};
      fill_outside(s + h * attention_tile, visible, columns, -std::numeric_limits<A>::infinity());
      fill_outside(dp + h * attention_tile, visible, columns, A{0});
      if (!exists) continue;
      shift[h] = broadcast(-std::numbers::log2e_v<A> * lse[h * call_.spec.heads]);
      dot[h] = broadcast(dots_[tile.first + r + h]);
    }
    for (index_t block = 0; block < columns; block += dropout_columns) {
      DropoutFactors<A> factors[depth];
      unrolled<depth>([&](auto h) { factors[h] = call_.factors(tile, r + h, block); });
      unrolled<DropoutFactors<A>::parts / depth>([&](auto unit) {
        const index_t at = block + unit * depth * lanes;
        if (at >= columns) return;
        Vector<A> kept[depth][depth] = {};  // (row, part)
        Vector<A> gradient[depth][depth] = {};
        unrolled<depth>([&](auto part) {
          const index_t j = at + part * lanes;
          if (j >= columns) return;
          unrolled<depth>([&](auto h) {
            const Vector<A> p = power_of_two<A>(multiply_add(load(s + h * attention_tile + j), scale, shift[h]));
            const Vector<A> factor = factors[h].part[unit * depth + part];
            kept[h][part] = p * factor;
            gradient[h][part] = p * (load(dp + h * attention_tile + j) * factor - dot[h]);
          });
          store(stacked_probabilities_ + stacked + j, stacked_units<U, A>(kept, part));
          store(stacked_dscores_ + stacked + j, stacked_units<U, A>(gradient, part));
        });
        unrolled<depth>(
            [&](auto h) { store(ds + h * attention_tile + at / depth, adjacent_units<U, A>(gradient[h])); });
      });
    }
  }

  const AttentionCall<T>& call_;
  // Of a head and the whole sequence.
  U* queries_;           // (length, units)
  U* doutputs_;          // (length, units)
  U* stacked_queries_;   // (length in units, width)
  U* stacked_doutputs_;  // (length in units, width)
  A* dqueries_;          // (length, width)
  A* dkeys_;             // (length, width)
  A* dvalues_;           // (length, width)
  A* dots_;              // (length)
  // Of a tile of keys.
  U* keys_transposed_;    // (units, tile)
  U* values_transposed_;  // (units, tile)
  U* stacked_keys_;       // (tile in units, width)
  // Of a strip of queries, and stacked of a block.
  A* scores_;                 // (strip_rows, tile)
  A* dprobabilities_;         // (strip_rows, tile)
  U* dscores_;                // (strip_rows, tile)
  U* stacked_probabilities_;  // (tile in units, tile)
  U* stacked_dscores_;        // (tile in units, tile)
};
