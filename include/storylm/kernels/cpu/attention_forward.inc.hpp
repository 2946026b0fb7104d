// SPDX-License-Identifier: MIT
/// @file
/// @brief Forward of attention on the CPU for one block of queries: softmax taken online, tile by tile.
///
/// M. Milakov and N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135.

/// A tile of the scores of one head; positions are those in the sequence.
struct ScoreTile {
  index_t sequence;
  index_t head;
  index_t first;    ///< position of the first query
  index_t queries;  ///< how many
  index_t first_key;
  index_t keys;
};

/// One attention call: the arguments that its pieces share.
template <class T>
struct AttentionCall {
  using A = accumulator_t<T>;
  using U = TileUnit<T>;

  MatrixView<const T> qkv;  // (tokens, qkv_width)
  AttentionSpec spec;
  PackedView batch;
  DropoutMask mask;
  A scale;        ///< of the scores
  A scale_log2;   ///< scale / ln 2: softmax is computed with powers of two
  index_t width;  ///< head_dim in whole vectors: rows of sums
  index_t units;  ///< head_dim in units, in whole vectors: rows of left operands

  AttentionCall(MatrixView<const T> rows, const AttentionSpec& shape, const DropoutSpec& dropout,
                const PackedView& packed)
      : qkv(rows),
        spec(shape),
        batch(packed),
        mask(dropout),
        scale(A{1} / std::sqrt(static_cast<A>(shape.head_dim))),
        scale_log2(scale * std::numbers::log2e_v<A>),
        width(padded_to_vectors<A>(shape.head_dim)),
        units(padded_to_vectors<U>(shape.head_dim / unit_depth<U>)) {}

  [[nodiscard]] index_t kv_head(index_t head) const { return head / (spec.heads / spec.kv_heads); }
  [[nodiscard]] index_t head_units() const { return spec.head_dim / unit_depth<U>; }
  [[nodiscard]] const T* query(index_t row, index_t head) const { return qkv.row(row) + head * spec.head_dim; }
  [[nodiscard]] const T* key(index_t row, index_t kv) const {
    return qkv.row(row) + spec.q_width() + kv * spec.head_dim;
  }
  [[nodiscard]] const T* value(index_t row, index_t kv) const { return key(row, kv) + spec.kv_width(); }
  /// Keys of a tile that its query i sees, those beyond its last query see as many.
  [[nodiscard]] VisibleKeys visible(const ScoreTile& tile, index_t i) const {
    return visible_keys(tile.first + i, tile.first_key, tile.keys, spec.window);
  }
  /// Keys of a tile that one of the strip_rows queries from i on may see.
  [[nodiscard]] VisibleKeys visible_to_strip(const ScoreTile& tile, index_t i) const {
    return {visible(tile, i).begin, visible(tile, i + strip_rows - 1).end};
  }
  /// Of query i of a tile and dropout_columns keys from `key` on, both counted in the tile.
  [[nodiscard, gnu::always_inline]] inline DropoutFactors<A> factors(const ScoreTile& tile, index_t i,
                                                                     index_t key) const {
    if (mask.active()) {
      return mask.template block<A>(batch.ordinals[tile.sequence], static_cast<std::int32_t>(tile.first + i),
                                    static_cast<std::uint32_t>(tile.head), tile.first_key + key);
    }
    DropoutFactors<A> ones;
    unrolled<DropoutFactors<A>::parts>([&](auto p) { ones.part[p] = broadcast(A{1}); });
    return ones;
  }
};

/// Forward of up to query_block queries of one head, from position `first` of a sequence on. Scratch of one thread.
template <class T>
class AttentionForward {
 public:
  using A = accumulator_t<T>;
  using U = TileUnit<T>;

  /// Queries that share the tiles of keys and values which are made for them.
  static constexpr index_t query_block = 4 * attention_tile;

  [[nodiscard]] static index_t scratch_size(const AttentionCall<T>& call) {
    return query_block * (call.units + call.width + 2) + attention_tile * (call.units + call.width + 2 * strip_rows);
  }
  AttentionForward(const AttentionCall<T>& call, A* scratch) : call_(call) {
    const auto take = [&]<class X>(X*& to, index_t rows, index_t n) {
      to = reinterpret_cast<X*>(scratch);  // X is as large as A
      scratch += rows * n;
    };
    take(queries_, query_block, call.units);
    take(outputs_, query_block, call.width);
    take(largest_, query_block, 1);
    take(sums_, query_block, 1);
    take(keys_, attention_tile, call.units);
    take(values_, attention_tile, call.width);
    take(scores_, attention_tile, strip_rows);
    take(probabilities_, attention_tile, strip_rows);
  }

  void run(MatrixView<T> y, A* lse, index_t sequence, index_t head, index_t first) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t count = std::min(query_block, call_.batch.offsets[sequence + 1] - begin - first);
    copy_tile(queries_, call_.units, call_.query(begin + first, head), call_.qkv.stride, count, spec.head_dim);
    const index_t rows = (count + strip_rows - 1) / strip_rows * strip_rows;
    std::fill_n(outputs_, rows * call_.width, A{0});
    std::fill_n(largest_, rows, -std::numeric_limits<A>::infinity());
    std::fill_n(sums_, rows, A{0});
    const index_t oldest = spec.window > 0 ? std::max<index_t>(0, first + 1 - spec.window) : 0;
    for (index_t key = oldest / attention_tile * attention_tile; key < first + count; key += attention_tile) {
      const index_t keys = std::min(attention_tile, first + count - key);
      add_tile({.sequence = sequence, .head = head, .first = first, .queries = count, .first_key = key, .keys = keys});
    }
    for (index_t i = 0; i < count; ++i) {
      const A* from = outputs_ + i * call_.width;
      T* to = y.row(begin + first + i) + head * spec.head_dim;
      const A inverse = A{1} / sums_[i];
      for_each_vector<A>(spec.head_dim,
                         [&](index_t c, auto which) { store_as<A>(to + c, load(from + c) * inverse, which); });
      lse[(begin + first + i) * spec.heads + head] =
          multiply_add(largest_[i], std::numbers::ln2_v<A>, std::log(sums_[i]));
    }
  }

 private:
  void add_tile(const ScoreTile& tile) const {
    constexpr index_t depth = unit_depth<U>;
    const index_t head_dim = call_.spec.head_dim;
    const index_t width = call_.width;
    const index_t row = call_.batch.offsets[tile.sequence] + tile.first_key;
    const index_t kv = call_.kv_head(tile.head);
    transpose_tile(keys_, call_.key(row, kv), call_.qkv.stride, tile.keys, head_dim);
    stack_tile(values_, width, call_.value(row, kv), call_.qkv.stride, tile.keys, head_dim);
    for (index_t i = std::max<index_t>(0, tile.first_key - tile.first); i < tile.queries; i += strip_rows) {
      const VisibleKeys visible = call_.visible_to_strip(tile, i);
      if (visible.begin >= visible.end) break;  // the window has passed the tile
      const index_t columns = padded_to_vectors<A>(visible.end);
      strip_product<A, U>(scores_, attention_tile, nullptr, {queries_ + i * call_.units, call_.units, 1}, keys_,
                          attention_tile, call_.head_units(), columns);
      A corrections[strip_rows];
      constexpr index_t together = std::min<index_t>(strip_rows, vector_lanes<A>);
      for (index_t r = 0; r < strip_rows; r += together) add_rows<together>(corrections + r, tile, i + r, columns);
      const index_t begin = visible.begin / depth;
      const index_t end = (visible.end + depth - 1) / depth;
      strip_product<A, U>(outputs_ + i * width, width, corrections, {probabilities_ + begin, attention_tile, 1},
                          values_ + begin * width, width, end - begin, width);
    }
  }

  // Scores of `Rows` rows from `i` on become probabilities relative to the largest so far; what was summed before is to
  // be multiplied by the corrections.
  template <index_t Rows>
  void add_rows(A* corrections, const ScoreTile& tile, index_t i, index_t columns) const {
    constexpr index_t lanes = vector_lanes<A>;
    constexpr int rows = static_cast<int>(Rows);
    A* const scores = scores_ + i % strip_rows * attention_tile;
    U* const probabilities = probabilities_ + i % strip_rows * attention_tile;
    Vector<A> most[rows];
    for (int h = 0; h < rows; ++h) {
      A* const row = scores + h * attention_tile;
      fill_outside(row, call_.visible(tile, i + h), columns, -std::numeric_limits<A>::infinity());
      Vector<A> largest = load(row);
      for (index_t j = lanes; j < columns; j += lanes) largest = larger<A>(load(row + j), largest);
      most[h] = largest;
    }
    // Lane h of these is row h's. A row that has seen no key yet has -infinity as its largest, and any finite shift
    // makes zeros of its probabilities.
    alignas(vector_bytes) A shifts[lanes];
    const Vector<A> before = load_first(largest_ + i, Rows);
    const Vector<A> largest = larger<A>(lane_maxima<A, rows>(most) * call_.scale_log2, before);
    const Vector<A> shift = select(largest < -std::numeric_limits<A>::max(), Vector<A>{}, largest);
    const Vector<A> correction = power_of_two<A>(Vector<A>(before - shift));
    store(shifts, -shift);
    for (int h = 0; h < rows; ++h) {
      largest_[i + h] = largest[h];
      corrections[h] = correction[h];
    }
    Vector<A> sum[rows];
    for (int h = 0; h < rows; ++h) {
      sum[h] =
          add_row(scores + h * attention_tile, probabilities + h * attention_tile, shifts[h], tile, i + h, columns);
    }
    const Vector<A> sums = lane_sums<A, rows>(sum);
    for (int h = 0; h < rows; ++h) sums_[i + h] = multiply_add(sums_[i + h], A{correction[h]}, A{sums[h]});
  }

  // The sums of a row's probabilities in parts; they are left behind with dropout.
  [[gnu::always_inline]] inline Vector<A> add_row(const A* scores, U* probabilities, A shift, const ScoreTile& tile,
                                                  index_t i, index_t columns) const {
    constexpr index_t lanes = vector_lanes<A>;
    constexpr int depth = unit_depth<U>;
    const Vector<A> scale = broadcast(call_.scale_log2);
    const Vector<A> row_shift = broadcast(shift);
    Vector<A> sum{};
    for (index_t block = 0; block < columns; block += dropout_columns) {
      const DropoutFactors<A> factors = call_.factors(tile, i, block);
      unrolled<DropoutFactors<A>::parts / depth>([&](auto unit) {
        const index_t at = block + unit * depth * lanes;
        if (at >= columns) return;
        Vector<A> kept[depth] = {};
        unrolled<depth>([&](auto part) {
          const index_t j = at + part * lanes;
          if (j >= columns) return;
          const Vector<A> p = power_of_two<A>(multiply_add(load(scores + j), scale, row_shift));
          sum += p;
          kept[part] = p * factors.part[unit * depth + part];
        });
        store(probabilities + at / depth, adjacent_units<U, A>(kept));
      });
    }
    return sum;
  }

  const AttentionCall<T>& call_;
  U* queries_;        // (query_block, units)
  A* outputs_;        // (query_block, width)
  A* largest_;        // (query_block)  scaled, for powers of two
  A* sums_;           // (query_block)
  U* keys_;           // (units, tile)
  U* values_;         // (tile in units, width)
  A* scores_;         // (strip_rows, tile)
  U* probabilities_;  // (strip_rows, tile)
};
