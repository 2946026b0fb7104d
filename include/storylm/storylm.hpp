// SPDX-License-Identifier: MIT
/// @file
/// @brief Everything. Smaller headers may be included instead; each one compiles on its own.
#pragma once

// IWYU pragma: begin_exports
#include <storylm/core/algorithm_table.hpp>
#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/core/host_device.hpp>
#include <storylm/core/precision.hpp>
#include <storylm/core/random.hpp>
#include <storylm/core/scratch.hpp>
#include <storylm/core/state.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/data/cleaning.hpp>
#include <storylm/data/loader.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/evaluate/judge.hpp>
#include <storylm/evaluate/judge_policy.hpp>
#include <storylm/evaluate/loss.hpp>
#include <storylm/evaluate/summary.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/generate/kv_cache.hpp>
#include <storylm/generate/sampler.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/kernels/sampling.hpp>
#include <storylm/models/config.hpp>
#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>
#include <storylm/nn/attention.hpp>
#include <storylm/nn/block.hpp>
#include <storylm/nn/dropout.hpp>
#include <storylm/nn/embedding.hpp>
#include <storylm/nn/feed_forward.hpp>
#include <storylm/nn/head.hpp>
#include <storylm/nn/init.hpp>
#include <storylm/nn/layer_norm.hpp>
#include <storylm/nn/linear.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/nn/norm.hpp>
#include <storylm/nn/parameter.hpp>
#include <storylm/nn/positions.hpp>
#include <storylm/nn/rms_norm.hpp>
#include <storylm/nn/transformer_config.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/ops/activation.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/ops/attention_cached.hpp>
#include <storylm/ops/attention_checks.hpp>
#include <storylm/ops/checks.hpp>
#include <storylm/ops/column_sum.hpp>
#include <storylm/ops/cross_entropy.hpp>
#include <storylm/ops/elementwise.hpp>
#include <storylm/ops/embedding.hpp>
#include <storylm/ops/layer_norm.hpp>
#include <storylm/ops/linear_activation.hpp>
#include <storylm/ops/linear_gradient.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/matmul_rows.hpp>
#include <storylm/ops/optimizer.hpp>
#include <storylm/ops/overlap.hpp>
#include <storylm/ops/peak_flops.hpp>
#include <storylm/ops/rms_norm.hpp>
#include <storylm/ops/rope.hpp>
#include <storylm/ops/sample.hpp>
#include <storylm/ops/swiglu.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/grad_scaler.hpp>
#include <storylm/optim/schedules.hpp>
#include <storylm/optim/sgd.hpp>
#include <storylm/tensor/arena.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/shape.hpp>
#include <storylm/tensor/span.hpp>
#include <storylm/tensor/tensor.hpp>
#include <storylm/tensor/uploader.hpp>
#include <storylm/tensor/view.hpp>
#include <storylm/text/added_tokens.hpp>
#include <storylm/text/any_tokenizer.hpp>
#include <storylm/text/byte_level_bpe.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/tokenizer.hpp>
#include <storylm/text/tokenizer_settings.hpp>
#include <storylm/train/flops.hpp>
#include <storylm/train/formatted.hpp>
#include <storylm/train/history.hpp>
#include <storylm/train/loss_plot.hpp>
#include <storylm/train/metrics.hpp>
#include <storylm/train/progress.hpp>
#include <storylm/train/recordings.hpp>
#include <storylm/train/spike_guard.hpp>
#include <storylm/train/step.hpp>
#include <storylm/version.hpp>

#if defined(STORYLM_WITH_CUDA)  // the target storylm::cuda is linked
#include <storylm/core/cuda_device.hpp>
#include <storylm/core/cuda_error.hpp>
#include <storylm/core/cuda_resources.hpp>
#endif

#if defined(STORYLM_WITH_IO)  // the target storylm::io is linked
#include <storylm/data/stories.hpp>
#include <storylm/data/stories_blocks.hpp>
#include <storylm/data/stories_json.hpp>
#include <storylm/data/stories_parallel.hpp>
#include <storylm/io/checkpoint.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/gguf_export.hpp>
#include <storylm/io/gguf_writer.hpp>
#include <storylm/io/hugging_face.hpp>
#include <storylm/io/hugging_face_config.hpp>
#include <storylm/io/hugging_face_export.hpp>
#include <storylm/io/hugging_face_fields.hpp>
#include <storylm/io/hugging_face_shards.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/model_parts.hpp>
#include <storylm/io/model_tensors.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/io/sentencepiece_model.hpp>
#include <storylm/io/tokenizer_files.hpp>
#include <storylm/io/tokenizer_json.hpp>
#include <storylm/train/run_state.hpp>
#endif

#if defined(STORYLM_WITH_SENTENCEPIECE)  // the target storylm::sentencepiece is linked
#include <storylm/text/sentencepiece.hpp>
#include <storylm/text/sentencepiece_encoder.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>
#endif

#if defined(STORYLM_WITH_IO) && defined(STORYLM_WITH_SENTENCEPIECE)  // both are linked
#include <storylm/text/hugging_face_tokenizer.hpp>
#endif
// IWYU pragma: end_exports
