// SPDX-License-Identifier: MIT
/// @file
/// @brief The one customisation point, kernel<Op, Device, T...>, and the contract of every op.
///
/// Backends specialise it, ops/ calls it. Kernels assume what ops/ has checked. An unsupported combination is an absent
/// specialisation. Where a tensor is named `dparameter`, the kernel adds to it; everything else it overwrites.
/// Sums run in an order that depends on shapes only, never on the number of threads.
#pragma once

#include <cstdint>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/core/random.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/view.hpp>

namespace storylm {

/// Where C = op(A) op(B) takes its operands from. The shapes after op() are (m, k) and (k, n).
struct MatmulFlags {
  bool transpose_a = false;  ///< A is given as (k, m)
  bool transpose_b = false;  ///< B is given as (n, k)
  bool accumulate = false;   ///< C += instead of C =
};

/// The use of randomness an op makes: which elements of its rows are dropped in which step.
/// Element (row, column) is kept when its 16-bit lane is at least threshold(): key = derive_key(seed, state->step,
/// site), counter = {ordinal of the row's story, position of the row, head or 0, column / 8}, lane = column % 8.
struct DropoutSpec {
  double probability = 0.0;          ///< of being dropped
  std::uint64_t seed = 0;            ///< of the run
  std::uint32_t site = 0;            ///< tells the places of a model apart
  const StepState* state = nullptr;  ///< has the step; null: nothing is dropped

  /// The probability in 65536ths, rounded: what is really used.
  [[nodiscard]] STORYLM_HOST_DEVICE constexpr std::uint32_t threshold() const {
    return state == nullptr ? 0U : static_cast<std::uint32_t>(probability * 65536.0 + 0.5);
  }
  /// False when nothing is dropped.
  [[nodiscard]] STORYLM_HOST_DEVICE constexpr bool active() const { return threshold() != 0U; }
  /// What kept elements are multiplied by: the inverse of the exact probability of being kept.
  [[nodiscard]] STORYLM_HOST_DEVICE constexpr double scale() const {
    return 65536.0 / (65536.0 - static_cast<double>(threshold()));
  }
};

/// Elementwise non-linearities of a feed-forward layer.
enum class Activation : std::uint8_t {
  relu,       ///< max(x, 0)
  gelu_tanh,  ///< x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), GPT-2's
  gelu_erf,   ///< x/2 (1 + erf(x / sqrt 2)); Hendrycks and Gimpel, arXiv:1606.08415
};

/// How rotary positions pair the columns of a head.
enum class RopeLayout : std::uint8_t {
  half_split,   ///< (i, i + size/2): Hugging Face's Llama
  interleaved,  ///< (2i, 2i + 1): the paper's, Su et al., arXiv:2104.09864
};

/// The shape of attention. A row of qkv is [heads x q | kv_heads x k | kv_heads x v], each head_dim wide; query head h
/// reads key-value head h / (heads / kv_heads).
struct AttentionSpec {
  index_t heads = 0;     ///< of queries
  index_t kv_heads = 0;  ///< of keys and values
  index_t head_dim = 0;  ///< width of a head
  index_t window = 0;    ///< position i sees i - window < j <= i; 0: all j <= i

  /// Columns of all queries.
  [[nodiscard]] constexpr index_t q_width() const { return heads * head_dim; }
  /// Columns of all keys, and of all values.
  [[nodiscard]] constexpr index_t kv_width() const { return kv_heads * head_dim; }
  /// Columns of a row of qkv.
  [[nodiscard]] constexpr index_t qkv_width() const { return q_width() + 2 * kv_width(); }
};

/// Keys and values of one layer for many stories: row (slot * capacity + position), head_dim of each kv head in turn.
template <class T>
struct KvView {
  T* keys = nullptr;                    ///< (slots, capacity, kv_width)
  T* values = nullptr;                  ///< (slots, capacity, kv_width)
  index_t capacity = 0;                 ///< positions per slot
  const std::int32_t* slots = nullptr;  ///< (sequences)  slot of each sequence of the batch
};

/// One run of parameters in an arena and whether weight decay applies to it.
struct ParameterSegment {
  index_t offset = 0;  ///< of its first element: the beginning of a slot (tensor/arena.hpp), and of no other segment's
  index_t size = 0;    ///< elements
  bool decay = false;  ///< weight decay applies
};

/// Adam's and AdamW's constants. Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101.
struct AdamConstants {
  double beta1 = 0.9;         ///< decay of the first moment
  double beta2 = 0.999;       ///< decay of the second moment
  double eps = 1e-8;          ///< added to the root of the second moment
  double weight_decay = 0.0;  ///< strength; see decoupled
  bool decoupled = false;     ///< AdamW: decay the weight itself; else the decay is added to the gradient
};

/// Stochastic gradient descent with momentum as PyTorch defines it.
struct SgdConstants {
  double momentum = 0.0;      ///< decay of the velocity
  double dampening = 0.0;     ///< keeps this share of a gradient out of the velocity
  double weight_decay = 0.0;  ///< added to the gradient
  bool nesterov = false;      ///< looks one step ahead
};

/// torch.amp.GradScaler's constants. Micikevicius et al., arXiv:1710.03740.
struct GradScaleConstants {
  double growth_factor = 2.0;           ///< of the scale after growth_interval good steps in a row
  double backoff_factor = 0.5;          ///< of the scale after a step whose gradients were not finite
  std::int32_t growth_interval = 2000;  ///< good steps until the scale grows
};

/// A flat arena as an optimizer sees it. `masters` is none where values are themselves accumulators.
template <class T>
struct ArenaView {
  T* values = nullptr;                         ///< (size)
  accumulator_t<T>* masters = nullptr;         ///< (size) or none
  accumulator_t<T>* gradients = nullptr;       ///< (size)
  index_t size = 0;                            ///< elements of each arena
  const ParameterSegment* segments = nullptr;  ///< (segment_count), in device memory
  index_t segment_count = 0;                   ///< number of parameters
};

/// Operation tags; each documents kernel<Op, D, T...>. d: the device. Shapes are (rows, cols).
namespace op {

/// `<TA, TB, TC>` run(d, C, A, B, flags, bias): C (m, n) = op(A) op(B) [+ C] [+ bias (n), TC, on every row; may be
/// null]. Equal shapes and values give equal bits, whatever the number of threads. For training.
struct matmul {};
/// `<TA, TB, TC>` run(d, C, A, B, bias): C (m, n) = A (m, k) B (n, k)^T [+ bias]. The bits of a row of C depend on that
/// row of A and on B only: not on m, threads, or the other rows. For generation and scoring.
struct matmul_rows {};
/// `<T, TG>` run(d, dweight, dbias, dy, x): dweight (out, in) += dy^T x, dbias (out) += sums of dy's columns; dy
/// (tokens, out), x (tokens, in), dbias may be null. Optional: ops::linear_gradient does without by matmul and
/// column_sum.
struct linear_gradient {};
/// `<T>` run(d, y, saved, x, weight, bias, activation, dropout, batch, row_invariant): y (tokens, width) = dropout(f(x
/// weight^T + bias)), bias may be null, row_invariant as matmul_rows; saved (tokens, saved_columns(activation, width))
/// is between run and backward(d, dpre, dy, weight, y, saved, activation, dropout, batch): dpre (tokens, width) = f'
/// dropout'(dy weight), weight (columns of dy, width), the gradient of what f was given. What is written lies over no
/// other argument. Optional: ops::linear_activation does without by matmul and activation.
struct linear_activation {};
/// `<T, TS>` run(d, dsum, X): dsum[c] += sum over rows r of X[r, c]; X (rows, cols) of T, dsum (cols) of TS.
struct column_sum {};
/// `<T>` run(d, y, x, activation, dropout, batch): y = dropout(f(x)), all (tokens, width); y may be x where
/// needs_input(activation) is false. backward(d, dx, dy, x, y, activation, dropout, batch): x is read only where
/// needs_input, y only where not; dx may be dy. static constexpr bool needs_input(Activation).
struct activation {};
/// `<T>` run(d, y, gate_up, dropout, batch): y (tokens, width) = dropout(silu(gate) * up), gate_up (tokens, 2 width)
/// with gate first; backward(d, dgate_up, dy, gate_up, dropout, batch), dgate_up may be gate_up. Shazeer,
/// arXiv:2002.05202.
struct swiglu {};
/// `<T>` run(d, y, sum, stats, residual, branch, weight, bias, eps, dropout, batch): sum = residual + dropout(branch);
/// y = (sum - mean) / sqrt(var + eps) * weight + bias, row by row; stats (tokens, 2) of accumulator = mean,
/// 1/sqrt(...). Without a branch `sum` is none and residual is normalised itself. All (tokens, width). backward(d,
/// dsum, dbranch, dweight, dbias, dy, sum, stats, weight, plus, dropout, batch): dsum = plus + gradient (plus may be
/// none, and may be dsum; dsum may be dy), dbranch = dropout'(dsum) or none. `sum` is the input that was normalised. Ba
/// et al., arXiv:1607.06450.
struct layer_norm {};
/// As layer_norm without mean and bias (bias and dbias are null, stats (tokens, 2) = 0, 1/rms).
/// Zhang and Sennrich, arXiv:1910.07467.
struct rms_norm {};
/// `<T>` run(d, y, table, positions, scale, dropout, batch): y[t] = dropout(table[ids[t]] * scale + positions[position
/// of t]); table (vocab, width), positions (max_len, width) or none. backward(d, dtable, dpositions, dy, scale,
/// dropout, batch): adds, in token order; gradients are of accumulator type; dpositions or none.
struct embedding {};
/// `<T>` run(d, qkv, spec, theta, layout, inverse, batch): rotates q and k of every row in place by its position;
/// inverse: by minus it, which is the backward. Su et al., arXiv:2104.09864.
struct rope {};
/// `<T>` run(d, y, lse, qkv, spec, dropout, batch): causal softmax attention within each sequence, scale
/// 1/sqrt(head_dim), dropout on the probabilities (counter: the query's row in its sequence, its head, the key's row in
/// the sequence as column); y (tokens, q_width), lse (tokens, heads) of accumulator = log of the sum of exponentials.
/// backward(d, dqkv, dy, y, lse, qkv, spec, dropout, batch).
struct attention {};
/// `<T, TKV>` run(d, y, qkv, kv, spec, batch): stores keys and values of the new rows at their positions in their
/// sequence's slot, then attends from each row to all stored positions up to its own. The bits of a row do not depend
/// on which other rows are in the batch, nor on how many of its predecessors came in the same call.
struct attention_cached {};
/// `<T>` run(d, loss, logits, targets, gradient): loss (rows) of accumulator = -log softmax(logits)[target], 0 where
/// there is no target; with `gradient` logits become softmax(logits) - onehot(target) (0 rows without a target).
struct cross_entropy {};
/// `<T>` run(d, total, values, n): *total += sum of n values, in double, total in device memory.
struct sum {};
/// `<TX, TY>` run(d, y, x, n, state, accumulate): y[i] (+)= x[i] * state->inverse_targets * state->loss_scale: turns
/// the gradient of a sum over target tokens into that of their mean. y may be x.
struct scale_to_mean {};
/// `<T>` run(d, y, x): y += x, both (rows, cols).
struct add {};
/// `<T>` run(d, y, x, rows): y[i] = x[rows[i]]; rows (y.rows) of int32.
struct gather_rows {};
/// `<T>` run(d, arena, m, v, t, constants, state): one Adam step over the arena with lr, clip and skip of state; m, v
/// (size) of accumulator; t counts the steps taken, on the device, and does not advance when skip is set.
struct adam {};
/// `<T>` run(d, arena, momentum, t, constants, state): one step of SGD; momentum (size) or none.
struct sgd {};
/// `<T>` run(d, gradients, n, max_norm, state): state->grad_norm = L2 norm of gradients / loss_scale; state->clip =
/// min(1, max_norm / (norm + 1e-6)) / loss_scale, max_norm <= 0: 1 / loss_scale; state->skip = 1 unless the norm is
/// finite.
struct clip {};
/// `<T>` begin(d, scale, state): state->loss_scale = *scale, and state->skip = 1 until op::clip has looked at the
/// gradients. update(d, scale, good_steps, constants, state): after a skipped step *scale *= backoff_factor and
/// *good_steps = 0; else ++*good_steps, and at growth_interval *scale *= growth_factor where that is finite and
/// *good_steps = 0. scale (float) and good_steps (int32) in device memory; products in double. T = half: no other dtype
/// needs it.
struct grad_scale {};
/// `<T>` run(d, out, logits, request): out (rows) of token_t = one token drawn from each row of logits (rows, vocab) as
/// SamplerOptions says (kernels/sampling.hpp), no_sample where none can be; what was drawn is also stored in
/// request.history if there is one. The random number: block = philox({story, position, 0, 0}, derive_key(seed, 0,
/// 0x73616D70)), the upper 53 bits of words 1 and 0. A row's token depends on no other row. advance(d, stories, out):
/// what follows when the host does not look: out becomes a row of stories.drawn, a story's latest token becomes what
/// was drawn (unless nothing was), its positions go up by one, to at most stories.last, and stories.step by one.
struct sample {};
/// `<T>` run(d) -> double: floating-point operations per second at best, measured.
struct peak_flops {};

}  // namespace op

/// Left undefined on purpose: an absent specialisation is how "not supported" is spelt.
template <class Op, class D, class... T>
struct kernel;

/// Satisfied when a backend provides Op for these dtypes on device D.
template <class D, class Op, class... T>
concept Supports = Device<D> && requires {
  sizeof(kernel<Op, D, T...>);
};

}  // namespace storylm
