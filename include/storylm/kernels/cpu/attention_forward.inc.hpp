// SPDX-License-Identifier: MIT
/// @file
/// @brief Forward of attention on the CPU for one block of queries: softmax taken online, tile by tile.
///
/// M. Milakov and N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135.

/// One attention call: the arguments that its pieces share.
template <class T>
struct AttentionCall {
  using A = accumulator_t<T>;
  using U = TileUnit<T>;

  MatrixView<const T> qkv;  // (tokens, qkv_width)
  AttentionSpec spec;
  PackedView batch;
  DropoutMask mask;
  A scale;
  index_t width;  ///< head_dim in whole vectors: rows of sums
  index_t units;  ///< head_dim in units, in whole vectors: rows of left operands

  AttentionCall(MatrixView<const T> rows, const AttentionSpec& shape, const DropoutSpec& dropout,
                const PackedView& packed)
      : qkv(rows),
        spec(shape),
        batch(packed),
        mask(dropout),
        scale(A{1} / std::sqrt(static_cast<A>(shape.head_dim))),
        width(padded_to_vectors<A>(shape.head_dim)),
        units(padded_to_vectors<U>(shape.head_dim / unit_depth<U>)) {}

  [[nodiscard]] index_t kv_head(index_t head) const { return head / (spec.heads / spec.kv_heads); }
  [[nodiscard]] index_t head_units() const { return spec.head_dim / unit_depth<U>; }
  [[nodiscard]] const T* query(index_t row, index_t head) const { return qkv.row(row) + head * spec.head_dim; }
  [[nodiscard]] const T* key(index_t row, index_t kv) const {
    return qkv.row(row) + spec.q_width() + kv * spec.head_dim;
  }
  [[nodiscard]] const T* value(index_t row, index_t kv) const { return key(row, kv) + spec.kv_width(); }
  /// Of the dropout_columns keys from `first_key` on.
  [[nodiscard, gnu::always_inline]] inline DropoutFactors<A> factors(index_t sequence, index_t query, index_t head,
                                                                     index_t first_key) const {
    if (mask.active()) {
      return mask.template block<A>(batch.ordinals[sequence], static_cast<std::int32_t>(query),
                                    static_cast<std::uint32_t>(head), first_key);
    }
    DropoutFactors<A> ones;
    unrolled<DropoutFactors<A>::parts>([&](auto p) { ones.part[p] = broadcast(A{1}); });
    return ones;
  }
};

/// Forward of up to attention_tile queries of one head, from position `first` of a sequence on. Scratch of one thread.
template <class T>
class AttentionForward {
 public:
  using A = accumulator_t<T>;
  using U = TileUnit<T>;

  [[nodiscard]] static index_t scratch_size(const AttentionCall<T>& call) {
    return attention_tile * (2 * call.units + 2 * call.width + 2 * strip_rows + 2);
  }
  AttentionForward(const AttentionCall<T>& call, A* scratch) : call_(call) {
    const auto take = [&]<class X>(X*& to, index_t n) {
      to = reinterpret_cast<X*>(scratch);  // X is as large as A
      scratch += attention_tile * n;
    };
    take(queries_, call.units);
    take(keys_, call.units);
    take(values_, call.width);
    take(outputs_, call.width);
    take(scores_, strip_rows);
    take(probabilities_, strip_rows);
    take(largest_, 1);
    take(sums_, 1);
  }

  void run(MatrixView<T> y, A* lse, index_t sequence, index_t head, index_t first) const {
    const AttentionSpec& spec = call_.spec;
    const index_t begin = call_.batch.offsets[sequence];
    const index_t count = std::min(attention_tile, call_.batch.offsets[sequence + 1] - begin - first);
    copy_tile(queries_, call_.units, call_.query(begin + first, head), call_.qkv.stride, count, spec.head_dim);
    std::fill_n(outputs_, attention_tile * call_.width, A{0});
    std::fill_n(largest_, attention_tile, -std::numeric_limits<A>::infinity());
    std::fill_n(sums_, attention_tile, A{0});
    const index_t oldest = spec.window > 0 ? std::max<index_t>(0, first + 1 - spec.window) : 0;
    for (index_t key = oldest / attention_tile * attention_tile; key <= first; key += attention_tile) {
      add_tile(sequence, head, first, count, key);
    }
    for (index_t i = 0; i < count; ++i) {
      const A* from = outputs_ + i * call_.width;
      T* to = y.row(begin + first + i) + head * spec.head_dim;
      const A inverse = A{1} / sums_[i];
      for_each_vector<A>(spec.head_dim,
                         [&](index_t c, auto which) { store_as<A>(to + c, load(from + c) * inverse, which); });
      lse[(begin + first + i) * spec.heads + head] = multiply_add(largest_[i], call_.scale, std::log(sums_[i]));
    }
  }

 private:
  void add_tile(index_t sequence, index_t head, index_t first, index_t count, index_t first_key) const {
    constexpr index_t depth = unit_depth<U>;
    const AttentionSpec& spec = call_.spec;
    const index_t width = call_.width;
    const index_t row = call_.batch.offsets[sequence] + first_key;
    const index_t keys = std::min(attention_tile, first + count - first_key);
    const index_t kv = call_.kv_head(head);
    transpose_tile(keys_, call_.key(row, kv), call_.qkv.stride, keys, spec.head_dim);
    stack_tile(values_, width, call_.value(row, kv), call_.qkv.stride, keys, spec.head_dim);
    for (index_t i = 0; i < count; i += strip_rows) {
      const index_t end = visible_keys(first + i + strip_rows - 1, first_key, keys, 0).end;
      const index_t begin = visible_keys(first + i, first_key, keys, spec.window).begin / depth;
      const index_t columns = padded_to_vectors<A>(end);
      if (begin * depth >= end) continue;
      strip_product<Sums::begin, A, U>(scores_, attention_tile, {queries_ + i * call_.units, call_.units, 1}, keys_,
                                       attention_tile, call_.head_units(), columns);
      for (index_t r = 0; r < strip_rows; ++r) add_row(sequence, head, first, i + r, first_key, keys, columns);
      strip_product<Sums::go_on, A, U>(outputs_ + i * width, width, {probabilities_ + begin, attention_tile, 1},
                                       values_ + begin * width, width, (end + depth - 1) / depth - begin, width);
    }
  }

  // Scores of one row become probabilities relative to the largest so far; what was summed before is rescaled to it.
  void add_row(index_t sequence, index_t head, index_t first, index_t i, index_t first_key, index_t keys,
               index_t columns) const {
    constexpr index_t lanes = vector_lanes<A>;
    constexpr int depth = unit_depth<U>;
    const VisibleKeys visible = visible_keys(first + i, first_key, keys, call_.spec.window);
    A* row = scores_ + i % strip_rows * attention_tile;
    U* probabilities = probabilities_ + i % strip_rows * attention_tile;
    if (visible.begin == visible.end) {
      std::fill_n(probabilities, columns, U{0});
      return;
    }
    fill_outside(row, visible, columns, -std::numeric_limits<A>::infinity());
    const A largest = row_max(row, columns, largest_[i]);
    if (largest != largest_[i]) rescale(i, largest);
    const Vector<A> scale = broadcast(call_.scale);
    const Vector<A> shift = broadcast(-largest * call_.scale);
    Vector<A> sum{};
    for (index_t block = 0; block < columns; block += dropout_columns) {
      const DropoutFactors<A> factors = call_.factors(sequence, first + i, head, first_key + block);
      unrolled<DropoutFactors<A>::parts / depth>([&](auto unit) {
        const index_t at = block + unit * depth * lanes;
        if (at >= columns) return;
        Vector<A> kept[depth] = {};
        unrolled<depth>([&](auto part) {
          const index_t j = at + part * lanes;
          if (j >= columns) return;
          const Vector<A> p = exp(multiply_add(load(row + j), scale, shift));
          sum += p;
          kept[part] = p * factors.part[unit * depth + part];
        });
        store(probabilities + at / depth, adjacent_units<U, A>(kept));
      });
    }
    sums_[i] += sum_of_lanes<A>(sum);
  }

  void rescale(index_t i, A largest) const {
    const A correction = exp((largest_[i] - largest) * call_.scale);
    largest_[i] = largest;
    sums_[i] *= correction;
    A* outputs = outputs_ + i * call_.width;
    for (index_t c = 0; c < call_.width; c += vector_lanes<A>) store(outputs + c, load(outputs + c) * correction);
  }

  const AttentionCall<T>& call_;
  U* queries_;        // (tile, units)
  U* keys_;           // (units, tile)
  U* values_;         // (tile in units, width)
  A* outputs_;        // (tile, width)
  A* scores_;         // (strip_rows, tile)
  U* probabilities_;  // (strip_rows, tile)
  A* largest_;        // (tile)  before scaling
  A* sums_;           // (tile)
};
