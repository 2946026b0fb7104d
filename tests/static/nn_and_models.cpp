// SPDX-License-Identifier: MIT
// Concepts of nn/ and models/: what satisfies them, and what does not; the config is a value that types may carry.
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/train/step.hpp>

using namespace storylm;
using nn::Block, nn::CausalSelfAttention, nn::Embedding, nn::Head, nn::LayerNorm, nn::Linear, nn::Mlp, nn::RmsNorm,
    nn::SwiGlu;

// Modules
static_assert(nn::Module<Linear<float, Cpu>> && nn::Module<const Linear<float, Cpu>>);
static_assert(nn::Module<Mlp<double, Cpu>> && nn::Module<Embedding<double, Cpu>> && nn::Module<Head<double, Cpu>>);
static_assert(nn::Module<LayerNorm<float, Cpu>> && nn::Module<RmsNorm<float, Cpu>>);
static_assert(nn::Module<TransformerLM<presets::story_tiny>>);
static_assert(!nn::Module<int> && !nn::Module<nn::Parameter<float, Cpu>> && !nn::Module<Tensor<float, Cpu>>);
static_assert(!nn::Module<std::vector<Linear<float, Cpu>>> && !nn::Module<nn::LinearOptions>);
struct MemberVisit {  // visit is static, so that one body serves const and not
  void visit(auto&& f) { f("x", *this); }
};
static_assert(!nn::Module<MemberVisit>);

// Layers: one input, one output. Not so norms, embeddings, heads, blocks.
static_assert(nn::Layer<Linear<double, Cpu>, Cpu> && nn::Layer<CausalSelfAttention<double, Cpu>, Cpu>);
static_assert(nn::Layer<Mlp<double, Cpu>, Cpu> && nn::Layer<SwiGlu<double, Cpu>, Cpu>);
static_assert(!nn::Layer<LayerNorm<float, Cpu>, Cpu> && !nn::Layer<Embedding<float, Cpu>, Cpu>);
static_assert(!nn::Layer<Head<float, Cpu>, Cpu> && !nn::Layer<Block<float, Cpu, LayerNorm, Mlp>, Cpu>);
static_assert(!nn::Layer<int, Cpu> && !nn::Layer<Linear<float, Cpu>, int>);

/// Linear, but for one part of the contract.
struct NoBackward {
  using Element = float;
  using Cache = Linear<float, Cpu>::Cache;
  static void visit(auto&, auto&&) {}
  Cache make_cache(const Cpu&, const Capacity&) const;
  MatrixView<const float> forward(MatrixView<const float>, const Pass<Cpu>&, Cache&) const;
};
struct Complete : NoBackward {
  void backward(MatrixView<const float>, MatrixView<float>, MatrixView<float>, const Pass<Cpu>&, const Cache&,
                MatrixView<const float>);
};
struct WritableResult : Complete {  // a forward that hands out its cache to be written to
  MatrixView<float> forward(MatrixView<const float>, const Pass<Cpu>&, Cache&) const;
};
struct MutatingForward : Complete {
  MatrixView<const float> forward(MatrixView<const float>, const Pass<Cpu>&, Cache&);
};
static_assert(nn::Layer<Complete, Cpu>);
static_assert(!nn::Layer<NoBackward, Cpu> && !nn::Layer<WritableResult, Cpu> && !nn::Layer<MutatingForward, Cpu>);

// ResidualStream layers: blocks
static_assert(nn::StreamLayer<Block<double, Cpu, LayerNorm, SwiGlu>, Cpu>);
static_assert(nn::StreamLayer<Block<float, Cpu, RmsNorm, Mlp>, Cpu>);
static_assert(!nn::StreamLayer<Linear<float, Cpu>, Cpu> && !nn::StreamLayer<CausalSelfAttention<float, Cpu>, Cpu>);
static_assert(!nn::StreamLayer<LayerNorm<float, Cpu>, Cpu>);

// The config is structural: a template argument, and the same type serves at run time
template <TransformerConfig C>
struct Carries {};
static_assert(std::is_same_v<Carries<presets::story_tiny>, Carries<presets::story_tiny>>);
static_assert(!std::is_same_v<Carries<presets::story_tiny>, Carries<presets::story_3m>>);
static_assert(std::is_trivially_copyable_v<TransformerConfig> && std::is_aggregate_v<TransformerConfig>);
static_assert(presets::story_24m.resolved() == presets::story_24m.resolved().resolved());

// The shell adds no state to the stack, and two configs of one architecture share it
using Tiny = TransformerLM<presets::story_tiny>;
static_assert(std::is_same_v<Tiny::Stack, TransformerLM<presets::story_24m>::Stack>);
static_assert(sizeof(Tiny) == sizeof(Tiny::Stack) && std::is_base_of_v<Tiny::Stack, Tiny>);
static_assert(!std::is_copy_constructible_v<Tiny> && std::is_move_constructible_v<Tiny>);

// What trains it
static_assert(StepHandle<train::Step<Tiny>> && Stateful<train::Step<Tiny>> && Stateful<optim::Adam<float, Cpu>>);
static_assert(!StepHandle<Tiny> && !Stateful<Tiny>);

// Kernels that the CPU has, and has not
static_assert(Supports<Cpu, op::matmul, float, float, float> && Supports<Cpu, op::matmul, double, double, double>);
static_assert(Supports<Cpu, op::matmul, bf16, bf16, float> && !Supports<Cpu, op::matmul, float, double, float>);
static_assert(Supports<Cpu, op::attention, bf16> && !Supports<Cpu, op::attention, std::int32_t>);
static_assert(Supports<Cpu, op::layer_norm, half> && !Supports<Cpu, op::layer_norm, std::int32_t>);
static_assert(!Supports<int, op::layer_norm, float>);
