// SPDX-License-Identifier: MIT
/// @file
/// @brief A decoder-only transformer language model whose sizes are run-time values.
///
/// Generator, evaluation, checkpoints and optimizers take this; TransformerLM<config, ...> is a thin shell over it.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/nn/block.hpp>
#include <storylm/nn/embedding.hpp>
#include <storylm/nn/head.hpp>
#include <storylm/nn/transformer_config.hpp>

namespace storylm {

/// How initial values are drawn.
enum class Initialisation : std::uint8_t {
  by_architecture,  ///< xavier for post-norm models, gpt2 for pre-norm ones
  xavier,           ///< every matrix xavier_uniform_, the rest as PyTorch's nn.TransformerEncoder leaves it
  gpt2,             ///< matrices normal(0, 0.02), those that end a branch divided by sqrt(2 n_layers), biases 0
  none,             ///< all zero: values come from a file
};

/// What is real-valued about a model, and what differs from run to run.
struct TransformerOptions {
  double dropout = 0.0;                                             ///< probability, everywhere
  double norm_eps = 1e-5;                                           ///< of all norms
  double rope_theta = 10000.0;                                      ///< base of rotary wavelengths
  std::uint64_t seed = 1;                                           ///< of the initial values
  Initialisation initialisation = Initialisation::by_architecture;  ///< how initial values are drawn
};

namespace nn {

/// Memory of keys and values for generation: one KvView per block.
template <class P>
using KvViews = std::vector<KvView<kv_t<P>>>;

/// @tparam P dtype or Precision
/// @tparam NormLayer LayerNorm or RmsNorm
/// @tparam FeedForward Mlp or SwiGlu
template <class P, Device D, template <class, class> class NormLayer, template <class, class> class FeedForward>
class TransformerStack {
  static_assert(std::same_as<weight_t<P>, activation_t<P>> && std::same_as<activation_t<P>, residual_t<P>>,
                "storylm: no kernels yet for weights, activations and a residual stream of different dtypes");

 public:
  using precision = P;                                     ///< dtype or Precision
  using device_type = D;                                   ///< where it computes
  using Element = activation_t<P>;                         ///< dtype of activations
  using BlockLayer = Block<P, D, NormLayer, FeedForward>;  ///< what it is a stack of
  using Store = ParameterStore<weight_t<P>, D>;            ///< the arenas

  /// Activations of one packed batch. A training cache has a block cache per block, an inference cache two, in turn.
  struct Cache {
    Capacity capacity;                                   ///< what it is made for
    typename Embedding<P, D>::Cache embedding;           ///< of the embedding
    std::vector<typename BlockLayer::Cache> blocks;      ///< one per block, or two
    typename NormLayer<P, D>::Cache norm;                ///< of the final norm
    typename Head<P, D>::Cache head;                     ///< training only
    std::vector<ResidualStream<const Element>> streams;  ///< what went into each block, and into the final norm
    bool training = false;                               ///< it can be used for backward
    index_t forward_tokens = -1;                         ///< of the batch of the last training forward
  };

  /// @throws ArgumentError when config and options do not make a model, or name other layer types than this has
  TransformerStack(const TransformerConfig& config, const D& device, const TransformerOptions& options = {},
                   Gradients gradients = Gradients::yes);

  /// With every derived field written out.
  [[nodiscard]] const TransformerConfig& shape() const noexcept { return config_; }
  /// As given.
  [[nodiscard]] const TransformerOptions& options() const noexcept { return options_; }
  /// Where it computes.
  [[nodiscard]] const D& device() const noexcept { return device_; }
  /// The arenas and the table of names: what optimizers take.
  [[nodiscard]] Store& parameters() noexcept { return *store_; }
  /// Read only.
  [[nodiscard]] const Store& parameters() const noexcept { return *store_; }

  /// Memory for forward and backward over batches of up to `capacity`.
  [[nodiscard]] Cache make_training_cache(const Capacity& capacity) const { return make_cache(capacity, true); }
  /// Memory for forward alone.
  [[nodiscard]] Cache make_inference_cache(const Capacity& capacity) const { return make_cache(capacity, false); }

  /// Hidden states after the final norm, (tokens, d_model), as a view into the cache. `kv` (one per block, or none):
  /// the rows continue cached stories.
  /// @throws ShapeError when the batch exceeds the cache or a sequence max_len
  [[nodiscard]] MatrixView<const Element> hidden(const Pass<D>& pass, Cache& cache, const KvViews<P>& kv = {}) const;
  /// y (rows, vocab_size) = logits of these hidden states.
  void logits(MatrixView<const Element> hidden_states, MatrixView<Element> y, const Pass<D>& pass) const {
    head.logits(hidden_states, head_weight(), y, pass);
  }
  /// Adds the losses of all targets to *total, a double on the device.
  void loss(MatrixView<const Element> hidden_states, double* total, const Pass<D>& pass) const {
    head.loss(hidden_states, head_weight(), total, pass, nullptr);
  }

  /// losses[r] = the loss in nats of these hidden states (rows, d_model) with targets[r], 0 without a target.
  /// @param losses (rows)
  /// @param targets (rows), in the device's memory like the losses
  void token_losses(MatrixView<const Element> hidden_states, std::span<accumulator_t<Element>> losses,
                    std::span<const token_t> targets, const Pass<D>& pass) const {
    head.token_losses(hidden_states, head_weight(), losses, targets, pass);
  }

  /// A training forward: adds the batch's losses to pass.state->loss_sum and leaves in the cache what backward needs.
  void forward(const Pass<D>& pass, Cache& cache) const;
  /// Adds the gradients of the loss, a mean over the step's targets, to all parameters.
  void backward(const Pass<D>& pass, Cache& cache);

  /// The same with whatever makes a pass of a batch and holds a cache: train::Step, or your own.
  template <class Batch, class Step>
  requires requires(Step& step, const Batch& batch) { step.pass(batch); }
  void forward(const Batch& batch, Step& step) const { forward(step.pass(batch), step.cache()); }
  /// The same for backward.
  template <class Batch, class Step>
  requires requires(Step& step, const Batch& batch) { step.pass(batch); }
  void backward(const Batch& batch, Step& step) { backward(step.pass(batch), step.cache()); }

  /// Names of parameters: embedding.weight, blocks.0.attention.qkv.weight, ..., norm.weight, head.weight.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("embedding", self.embedding);
    for (std::size_t i = 0; i < self.blocks.size(); ++i) f("blocks." + std::to_string(i), self.blocks[i]);
    f("norm", self.norm);
    f("head", self.head);
  }

  Embedding<P, D> embedding;       ///< tokens to vectors
  std::vector<BlockLayer> blocks;  ///< (n_layers)
  NormLayer<P, D> norm;            ///< after the last block
  Head<P, D> head;                 ///< vectors to logits

 private:
  [[nodiscard]] static const TransformerConfig& checked(const TransformerConfig& config,
                                                        const TransformerOptions& options);
  [[nodiscard]] std::unique_ptr<Store> make_store(const D& device, Gradients gradients);
  [[nodiscard]] static BlockOptions block_options(const TransformerConfig& c, const TransformerOptions& o,
                                                  std::uint32_t block);
  [[nodiscard]] Cache make_cache(const Capacity& capacity, bool training) const;
  [[nodiscard]] MatrixView<const weight_t<P>> head_weight() const {
    return head.weight ? head.weight->value() : embedding.weight.value();
  }
  void initialise();
  void initialise_xavier(RandomStream& random);
  void initialise_gpt2(RandomStream& random);

  TransformerConfig config_;
  TransformerOptions options_;
  D device_;
  std::unique_ptr<Store> store_;  // apart, so that an optimizer's reference outlives a move of the model
};

// ---------------------------------------------------------------------------------------------------------------------

template <class P, Device D, template <class, class> class N, template <class, class> class F>
TransformerStack<P, D, N, F>::TransformerStack(const TransformerConfig& config, const D& device,
                                               const TransformerOptions& options, Gradients gradients)
    : embedding({.vocab_size = checked(config, options).vocab_size,
                 .width = config.d_model,
                 .max_len = config.max_len,
                 .positions = config.positions == PositionKind::sinusoidal ? AddedPositions::sinusoidal
                              : config.positions == PositionKind::learned  ? AddedPositions::learned
                                                                           : AddedPositions::none,
                 .scale = config.scale_embedding,
                 .dropout = options.dropout},
                device),
      norm({.width = config.d_model, .eps = options.norm_eps, .bias = config.norm_bias}),
      head({.width = config.d_model,
            .vocab_size = config.vocab_size,
            .bias = config.head_bias,
            .tied = config.tie_head}),
      config_(config.resolved()),
      options_(options),
      device_(device),
      store_(make_store(device, gradients)) {
  initialise();
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
auto TransformerStack<P, D, N, F>::make_store(const D& device, Gradients gradients) -> std::unique_ptr<Store> {
  for (int i = 0; i < config_.n_layers; ++i)
    blocks.emplace_back(block_options(config_, options_, static_cast<std::uint32_t>(i)));
  return std::make_unique<Store>(allocate<weight_t<P>>(*this, device, gradients));
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
const TransformerConfig& TransformerStack<P, D, N, F>::checked(const TransformerConfig& config,
                                                               const TransformerOptions& options) {
  const TransformerConfig c = config.resolved();
  const auto positive = [](const char* name, int value) {
    expects<ArgumentError>(value > 0, "TransformerStack", name, " must be positive: ", value);
  };
  positive("vocab_size", c.vocab_size);
  positive("d_model", c.d_model);
  positive("d_ff", c.d_ff);
  positive("n_layers", c.n_layers);
  positive("n_heads", c.n_heads);
  positive("n_kv_heads", c.n_kv_heads);
  positive("head_dim", c.head_dim);
  positive("max_len", c.max_len);
  expects<ArgumentError>(c.n_heads % c.n_kv_heads == 0, "TransformerStack", "n_heads ", c.n_heads,
                         " is not a multiple of n_kv_heads ", c.n_kv_heads);
  expects<ArgumentError>(config.head_dim != 0 || c.d_model % c.n_heads == 0, "TransformerStack", "d_model ", c.d_model,
                         " is not a multiple of n_heads ", c.n_heads, " and head_dim is not given");
  expects<ArgumentError>(c.head_dim % 2 == 0, "TransformerStack", "head_dim must be even: ", c.head_dim);
  expects<ArgumentError>(c.sliding_window >= 0, "TransformerStack",
                         "sliding_window must not be negative: ", c.sliding_window);
  expects<ArgumentError>(options.dropout >= 0.0 && options.dropout <= 0.9999, "TransformerStack",  // 16-bit thresholds
                         "dropout must be in [0, 0.9999]: ", options.dropout);
  expects<ArgumentError>(!c.uses_rope() || (options.rope_theta > 0.0 && std::isfinite(options.rope_theta)),
                         "TransformerStack", "rope_theta must be positive and finite: ", options.rope_theta);
  constexpr bool layer_norm = std::is_same_v<N<P, D>, LayerNorm<P, D>>;
  constexpr bool gated = std::is_same_v<F<P, D>, SwiGlu<P, D>>;
  expects<ArgumentError>(layer_norm == (c.norm == NormKind::layer_norm), "TransformerStack",
                         "the config's norm is not the type's: use nn::with_stack_type");
  expects<ArgumentError>(gated == (c.feed_forward == FeedForwardKind::swiglu), "TransformerStack",
                         "the config's feed_forward is not the type's: use nn::with_stack_type");
  return config;
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
BlockOptions TransformerStack<P, D, N, F>::block_options(const TransformerConfig& c, const TransformerOptions& o,
                                                         std::uint32_t block) {
  const auto dropout = [&](std::uint32_t site) { return Dropout{o.dropout, site}; };
  std::optional<RopeOptions> rope;
  if (c.uses_rope())
    rope = {o.rope_theta, c.positions == PositionKind::rope_half ? RopeLayout::half_split : RopeLayout::interleaved};
  return {.attention = {.width = c.d_model,
                        .spec = {.heads = c.n_heads,
                                 .kv_heads = c.n_kv_heads,
                                 .head_dim = c.head_dim,
                                 .window = c.sliding_window},
                        .qkv_bias = c.qkv_bias,
                        .out_bias = c.attention_out_bias,
                        .rope = rope,
                        .dropout = dropout(DropoutSites::attention(block))},
          .feed_forward = {.width = c.d_model,
                           .hidden = c.d_ff,
                           .bias = c.feed_forward_bias,
                           .activation = c.feed_forward == FeedForwardKind::gelu_tanh  ? Activation::gelu_tanh
                                         : c.feed_forward == FeedForwardKind::gelu_erf ? Activation::gelu_erf
                                                                                       : Activation::relu,
                           .dropout = dropout(DropoutSites::hidden(block))},
          .norm = {.width = c.d_model, .eps = o.norm_eps, .bias = c.norm_bias},
          .pre_norm = c.pre_norm,
          .attention_branch = dropout(DropoutSites::attention_branch(block)),
          .feed_forward_branch = dropout(DropoutSites::feed_forward_branch(block))};
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
auto TransformerStack<P, D, N, F>::make_cache(const Capacity& capacity, bool training) const -> Cache {
  expects<ArgumentError>(capacity.tokens > 0 && capacity.sequences > 0 && capacity.longest > 0, "make_cache",
                         "capacity must be positive: ", capacity.tokens, " tokens, ", capacity.sequences,
                         " sequences, the longest of ", capacity.longest);
  Cache cache;
  cache.capacity = capacity;
  cache.training = training;
  cache.embedding = embedding.make_cache(device_, capacity);
  const std::size_t count = training ? blocks.size() : std::min<std::size_t>(2, blocks.size());
  for (std::size_t i = 0; i < count; ++i) cache.blocks.push_back(blocks[i].make_cache(device_, capacity));
  cache.norm = norm.make_cache(device_, capacity);
  if (training) cache.head = head.make_cache(device_, capacity);
  cache.streams.resize(blocks.size() + 1);
  return cache;
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
auto TransformerStack<P, D, N, F>::hidden(const Pass<D>& pass, Cache& cache, const KvViews<P>& kv) const
    -> MatrixView<const Element> {
  const PackedView& batch = pass.batch;
  expects<ShapeError>(batch.tokens <= cache.capacity.tokens && batch.sequences <= cache.capacity.sequences,
                      "TransformerStack", "the batch has ", batch.tokens, " tokens in ", batch.sequences,
                      " sequences, the cache is made for ", cache.capacity.tokens, " in ", cache.capacity.sequences);
  expects<ShapeError>(batch.longest <= cache.capacity.longest, "TransformerStack", "a sequence has ", batch.longest,
                      " tokens, the cache is made for ", cache.capacity.longest);
  expects<ShapeError>(batch.longest <= config_.max_len, "TransformerStack", "a sequence of ", batch.longest,
                      " tokens exceeds max_len ", config_.max_len);
  expects<ShapeError>(kv.empty() || kv.size() == blocks.size(), "TransformerStack", "got cached keys and values of ",
                      kv.size(), " blocks, the model has ", blocks.size());
  cache.streams[0] = {.residual = embedding.forward(pass, cache.embedding), .branch = {}, .dropout = {}};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    auto& block_cache = cache.blocks[cache.training ? i : i % 2];
    cache.streams[i + 1] =
        blocks[i].forward(cache.streams[i], pass, block_cache, kv.empty() ? KvView<kv_t<P>>{} : kv[i]);
  }
  return norm.forward(cache.streams.back(), pass, cache.norm);
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
void TransformerStack<P, D, N, F>::forward(const Pass<D>& pass, Cache& cache) const {
  expects<ArgumentError>(cache.training, "TransformerStack::forward", "needs a training cache");
  expects<ArgumentError>(pass.state != nullptr, "TransformerStack::forward", "needs a StepState to add the loss to");
  head.loss(hidden(pass, cache), head_weight(), &pass.state->loss_sum, pass, &cache.head);
  cache.forward_tokens = pass.batch.tokens;
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
void TransformerStack<P, D, N, F>::backward(const Pass<D>& pass, Cache& cache) {
  expects<ArgumentError>(store_->has_gradients(), "TransformerStack::backward", "the model was made without gradients");
  expects<ArgumentError>(cache.training, "TransformerStack::backward", "needs a training cache");
  expects<ArgumentError>(pass.state != nullptr, "TransformerStack::backward", "needs the StepState of the step");
  expects<ShapeError>(cache.forward_tokens == pass.batch.tokens, "TransformerStack::backward", "the batch has ",
                      pass.batch.tokens, " tokens, forward with this cache had ", cache.forward_tokens);
  const index_t rows = pass.batch.tokens;
  auto scratch = pass.device.scratch();
  const auto matrix = [&] {
    return MatrixView<Element>(scratch.template take<Element>(rows * config_.d_model), rows, config_.d_model);
  };
  const ResidualStream<Element> d{matrix(), matrix(), {}};  // gradient of the stream, block by block in place
  const auto dweight = head.weight ? head.weight->gradient() : embedding.weight.gradient();
  const auto dhidden = head.backward(rows, dweight, pass, cache.head);

  const auto& last = cache.streams.back();
  norm.backward(last, dhidden, {d.residual, last.branch ? d.branch : MatrixView<Element>{}, {}}, pass, cache.norm);
  for (std::size_t i = blocks.size(); i-- > 0;) blocks[i].backward(cache.streams[i], d, pass, cache.blocks[i]);
  embedding.backward(d.residual, pass);
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
void TransformerStack<P, D, N, F>::initialise() {
  if (options_.initialisation == Initialisation::none) return;
  RandomStream random(options_.seed, 0, 0x1417);  // a stream of its own, apart from dropout's and the shuffle's
  const bool xavier = options_.initialisation == Initialisation::xavier ||
                      (options_.initialisation == Initialisation::by_architecture && !config_.pre_norm);
  norm.initialise();
  for (auto& block : blocks) {
    block.norm1.initialise();
    block.norm2.initialise();
  }
  xavier ? initialise_xavier(random) : initialise_gpt2(random);
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
void TransformerStack<P, D, N, F>::initialise_xavier(RandomStream& random) {
  for_each_parameter(*this, [&](const std::string&, auto& p) {
    if (p.shape().rank() == 2) init_xavier_uniform(p, random);
  });
  const auto linear_bias = [&](auto& bias, index_t fan_in) {  // torch.nn.Linear's default
    if (bias) init_uniform(*bias, 1.0 / std::sqrt(static_cast<double>(fan_in)), random);
  };
  for (auto& block : blocks) {  // the attention's biases stay zero, as in torch.nn.MultiheadAttention
    if constexpr (requires { block.feed_forward.up; }) {
      linear_bias(block.feed_forward.up.bias, config_.d_model);
    } else {
      linear_bias(block.feed_forward.gate_up.bias, config_.d_model);
    }
    linear_bias(block.feed_forward.down.bias, config_.d_ff);
  }
  linear_bias(head.bias, config_.d_model);
}

template <class P, Device D, template <class, class> class N, template <class, class> class F>
void TransformerStack<P, D, N, F>::initialise_gpt2(RandomStream& random) {
  constexpr double deviation = 0.02;
  for_each_parameter(*this, [&](const std::string&, auto& p) {
    if (p.shape().rank() == 2) init_normal(p, deviation, random);
  });
  const double branch = deviation / std::sqrt(2.0 * config_.n_layers);
  for (auto& block : blocks) {
    init_normal(block.attention.out.weight, branch, random);
    init_normal(block.feed_forward.down.weight, branch, random);
  }
}

/// The stack of a config known at run time: calls f with a std::type_identity of TransformerStack<P, D, ...>.
template <class P, Device D, class F>
decltype(auto) with_stack_type(const TransformerConfig& config, F&& f) {
  const bool layer_norm = config.norm == NormKind::layer_norm;
  if (config.feed_forward == FeedForwardKind::swiglu) {
    if (layer_norm) return f(std::type_identity<TransformerStack<P, D, LayerNorm, SwiGlu>>{});
    return f(std::type_identity<TransformerStack<P, D, RmsNorm, SwiGlu>>{});
  }
  if (layer_norm) return f(std::type_identity<TransformerStack<P, D, LayerNorm, Mlp>>{});
  return f(std::type_identity<TransformerStack<P, D, RmsNorm, Mlp>>{});
}

}  // namespace nn
}  // namespace storylm
