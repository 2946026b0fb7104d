# storylm_add_preset(<NAME> <FOLDER>): the shape that a Hugging Face folder's config.json describes, as a compile-time preset for
# programs of one's own. Only config.json is read, again whenever it changes.
#
#   storylm_add_preset(judge ${CMAKE_SOURCE_DIR}/Starling-LM-7B-beta)
#   target_link_libraries(my_program PRIVATE storylm::storylm storylm::preset_judge)
#
#   #include <storylm_presets/judge.hpp>
#   storylm::TransformerLM<storylm::presets::judge, storylm::bf16> model({}, storylm::presets::judge_options);
#
# The rules are those of include/storylm/io/hugging_face_config.hpp, which loading checks the preset against; what it refuses is
# refused here too.

# The field's JSON type in <out>, ABSENT where there is none.
function(storylm_json_type out json key)
  string(JSON type ERROR_VARIABLE error TYPE "${json}" "${key}")
  if(error)
    set(type ABSENT)
  endif()
  set(${out} ${type} PARENT_SCOPE)
endfunction()

# storylm_json_field(<out> <kind> <json> <key> <absent> [<null>]): the field's value as COUNT, REAL, BOOL or TEXT. `storylm_context`
# of the caller begins messages.
function(storylm_json_field out kind json key absent)
  storylm_json_type(type "${json}" ${key})
  if(type STREQUAL "ABSENT")
    set(${out} "${absent}" PARENT_SCOPE)
    return()
  endif()
  string(JSON value GET "${json}" ${key})
  if(type STREQUAL "NULL" AND ARGC GREATER 5)
    set(${out} "${ARGV5}" PARENT_SCOPE)
    return()
  endif()
  if(kind STREQUAL "COUNT")
    if(NOT type STREQUAL "NUMBER" OR NOT value MATCHES "^[0-9]+$" OR value LESS 1 OR value GREATER 4194304)
      message(FATAL_ERROR "${storylm_context}\"${key}\" is \"${value}\", expected a number from 1 to 4194304")
    endif()
  elseif(kind STREQUAL "REAL")
    if(NOT type STREQUAL "NUMBER")
      message(FATAL_ERROR "${storylm_context}\"${key}\" is \"${value}\", expected a number")
    endif()
  elseif(kind STREQUAL "BOOL")
    if(NOT type STREQUAL "BOOLEAN")
      message(FATAL_ERROR "${storylm_context}\"${key}\" is \"${value}\", expected true or false")
    endif()
    if(value)
      set(value true)
    else()
      set(value false)
    endif()
  elseif(NOT type STREQUAL "STRING")
    message(FATAL_ERROR "${storylm_context}\"${key}\" is \"${value}\", expected a string")
  endif()
  set(${out} "${value}" PARENT_SCOPE)
endfunction()

# A field of two names, which must not disagree.
function(storylm_json_count out json key other absent)
  storylm_json_field(second COUNT "${json}" ${other} ${absent})
  storylm_json_field(first COUNT "${json}" ${key} ${second})
  storylm_json_type(type "${json}" ${other})
  if(NOT type STREQUAL "ABSENT" AND NOT first EQUAL second)
    message(FATAL_ERROR "${storylm_context}\"${key}\" is ${first}, but \"${other}\" is ${second}")
  endif()
  set(${out} ${first} PARENT_SCOPE)
endfunction()

# Refuses a field that says anything but <known>, a value of <kind>. Null is false where that is a BOOL, and says nothing elsewhere.
function(storylm_json_only kind json key known)
  storylm_json_type(type "${json}" ${key})
  if(type STREQUAL "NULL" AND kind STREQUAL "BOOL" AND known)
    message(FATAL_ERROR "${storylm_context}\"${key}\" is null, which is not supported: expected ${known}")
  endif()
  storylm_json_field(value ${kind} "${json}" ${key} ${known} ${known})
  if((kind STREQUAL "REAL" AND NOT value EQUAL known) OR (NOT kind STREQUAL "REAL" AND NOT value STREQUAL known))
    message(FATAL_ERROR "${storylm_context}\"${key}\" is ${value}, which is not supported: expected ${known}")
  endif()
endfunction()

# Refuses a field that says anything but null, {} or [].
function(storylm_json_none json key why)
  storylm_json_type(type "${json}" ${key})
  if(type STREQUAL "ABSENT" OR type STREQUAL "NULL")
    return()
  endif()
  if(type STREQUAL "OBJECT" OR type STREQUAL "ARRAY")
    string(JSON length LENGTH "${json}" ${key})
    if(length EQUAL 0)
      return()
    endif()
  endif()
  message(FATAL_ERROR "${storylm_context}\"${key}\" is not supported: ${why}")
endfunction()

# The base of RoPE: rope_theta and rope_scaling (transformers 4) or rope_parameters (transformers 5).
function(storylm_json_rope_theta out json)
  storylm_json_only(REAL "${json}" partial_rotary_factor 1.0)
  storylm_json_field(theta REAL "${json}" rope_theta "" "")
  set(file "${storylm_context}")
  foreach(key IN ITEMS rope_scaling rope_parameters)
    storylm_json_type(type "${json}" ${key})
    if(type STREQUAL "ABSENT" OR type STREQUAL "NULL")
      continue()
    elseif(NOT type STREQUAL "OBJECT")
      message(FATAL_ERROR "${file}\"${key}\" is no object")
    endif()
    set(storylm_context "${file}\"${key}\": ")
    string(JSON object GET "${json}" ${key})
    string(JSON length LENGTH "${object}")
    set(position 0)
    while(position LESS length)
      string(JSON field MEMBER "${object}" ${position})
      if(NOT field MATCHES "^(rope_type|type|rope_theta|partial_rotary_factor)$")
        message(FATAL_ERROR "${storylm_context}\"${field}\" is not supported for the rope_type \"default\"")
      endif()
      math(EXPR position "${position} + 1")
    endwhile()
    storylm_json_only(TEXT "${object}" rope_type default)
    storylm_json_only(TEXT "${object}" type default)
    storylm_json_only(REAL "${object}" partial_rotary_factor 1.0)
    storylm_json_field(here REAL "${object}" rope_theta "" "")
    if(NOT here STREQUAL "")
      if(NOT theta STREQUAL "" AND NOT theta EQUAL here)
        message(FATAL_ERROR "${storylm_context}\"rope_theta\" is ${here}, but outside of it ${theta}")
      endif()
      set(theta ${here})
    endif()
  endforeach()
  if(theta STREQUAL "")
    set(theta 10000.0)
  elseif(NOT theta GREATER 0)
    message(FATAL_ERROR "${file}\"rope_theta\" is ${theta}, expected a positive number")
  endif()
  set(${out} ${theta} PARENT_SCOPE)
endfunction()

# storylm_write_hugging_face_preset(<name> <config.json> <header>)
function(storylm_write_hugging_face_preset name file header)
  set(storylm_context "storylm_add_preset(${name}): ${file}: ")
  if(NOT name MATCHES "^[a-z][a-z0-9_]*$")
    message(FATAL_ERROR "storylm_add_preset: \"${name}\" is not a name: expected lower-case letters, digits and _")
  endif()
  # The words of C++20 that such a name could be; the compiler's message would speak of a generated header.
  set(keywords alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await
      co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do double
      dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not
      not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires return short signed sizeof static
      static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using
      virtual void volatile wchar_t while xor xor_eq)
  if(name IN_LIST keywords)
    message(FATAL_ERROR "storylm_add_preset: \"${name}\" is a keyword of C++")
  endif()
  get_property(folder GLOBAL PROPERTY storylm_include_folder)
  if(NOT folder)
    set(folder ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include)
  endif()
  file(READ ${folder}/storylm/models/presets.hpp built_in)
  if(built_in MATCHES "\ninline constexpr [A-Za-z:]+ ${name} = " OR built_in MATCHES "[ \n]constexpr [A-Za-z:]+ ${name}\\(")
    message(FATAL_ERROR "storylm_add_preset: \"${name}\" is taken (storylm/models/presets.hpp)")
  endif()
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "${storylm_context}there is no such file")
  endif()
  file(READ ${file} json)
  string(JSON type ERROR_VARIABLE error TYPE "${json}")
  if(error OR NOT type STREQUAL "OBJECT")
    message(FATAL_ERROR "${storylm_context}it is not a JSON object: ${error}")
  endif()

  # Which architecture: model_type and architectures must agree, one of them may be absent.
  set(architectures gpt2 GPT2LMHeadModel llama LlamaForCausalLM mistral MistralForCausalLM)
  storylm_json_field(model_type TEXT "${json}" model_type "" "")
  storylm_json_type(type "${json}" architectures)
  if(type STREQUAL "ARRAY")
    string(JSON length LENGTH "${json}" architectures)
    if(NOT length EQUAL 1)
      message(FATAL_ERROR "${storylm_context}\"architectures\" has ${length} names, expected 1")
    endif()
    string(JSON architecture GET "${json}" architectures 0)
    list(FIND architectures "${architecture}" position)
    if(position EQUAL -1 OR NOT architecture MATCHES "[A-Z]")
      message(FATAL_ERROR "${storylm_context}\"architectures\" says \"${architecture}\", which is not supported: expected "
                          "GPT2LMHeadModel, LlamaForCausalLM or MistralForCausalLM")
    endif()
    math(EXPR position "${position} - 1")
    list(GET architectures ${position} by_name)
    if(NOT model_type STREQUAL "" AND NOT model_type STREQUAL by_name)
      message(FATAL_ERROR "${storylm_context}\"model_type\" is \"${model_type}\", but \"architectures\" says \"${architecture}\"")
    endif()
    set(model_type ${by_name})
  elseif(NOT type STREQUAL "ABSENT" AND NOT type STREQUAL "NULL")
    message(FATAL_ERROR "${storylm_context}\"architectures\" is no array")
  endif()
  if(NOT model_type MATCHES "^(gpt2|llama|mistral)$")
    message(FATAL_ERROR "${storylm_context}\"model_type\" says \"${model_type}\", which is not supported: expected gpt2, llama or "
                        "mistral")
  endif()

  storylm_json_none("${json}" quantization_config "weights must be F32, F16 or BF16")
  storylm_json_none("${json}" compression_config "weights must be F32, F16 or BF16")
  storylm_json_none("${json}" pruned_heads "every layer must have all of its heads")
  storylm_json_none("${json}" per_layer_config "all layers must be alike")
  storylm_json_only(BOOL "${json}" is_encoder_decoder false)
  storylm_json_only(BOOL "${json}" is_causal true)

  set(window 0)
  set(theta 10000.0)
  if(model_type STREQUAL "gpt2")
    storylm_json_field(vocab_size COUNT "${json}" vocab_size 50257)
    storylm_json_count(max_len "${json}" n_positions max_position_embeddings 1024)
    storylm_json_count(d_model "${json}" n_embd hidden_size 768)
    storylm_json_count(n_layers "${json}" n_layer num_hidden_layers 12)
    storylm_json_count(n_heads "${json}" n_head num_attention_heads 12)
    math(EXPR four "4 * ${d_model}")
    storylm_json_field(d_ff COUNT "${json}" n_inner ${four} ${four})
    set(n_kv_heads ${n_heads})
    set(head_dim 0)
    storylm_json_field(tied BOOL "${json}" tie_word_embeddings true)
    storylm_json_field(activation TEXT "${json}" activation_function gelu_new)
    if(activation MATCHES "^(gelu_new|gelu_pytorch_tanh|gelu_fast)$")
      set(feed_forward gelu_tanh)
    elseif(activation STREQUAL "gelu")
      set(feed_forward gelu_erf)
    elseif(activation STREQUAL "relu")
      set(feed_forward relu)
    else()
      message(FATAL_ERROR "${storylm_context}\"activation_function\" is \"${activation}\", which is not supported: expected gelu_new, "
                          "gelu_pytorch_tanh, gelu_fast, gelu or relu")
    endif()
    storylm_json_field(eps REAL "${json}" layer_norm_epsilon 1e-5)
    storylm_json_only(BOOL "${json}" scale_attn_weights true)
    storylm_json_only(BOOL "${json}" scale_attn_by_inverse_layer_idx false)
    storylm_json_only(BOOL "${json}" add_cross_attention false)
    set(norm layer_norm)
    set(positions learned)
    set(attention_bias true)
    set(feed_forward_bias true)
  else()
    set(layer_type full_attention)
    if(model_type STREQUAL "mistral")
      storylm_json_field(d_ff COUNT "${json}" intermediate_size 14336)
      storylm_json_field(max_len COUNT "${json}" max_position_embeddings 131072)
      storylm_json_field(window COUNT "${json}" sliding_window 4096 0)
      storylm_json_only(BOOL "${json}" attention_bias false)
      storylm_json_only(BOOL "${json}" mlp_bias false)
      set(attention_bias false)
      set(feed_forward_bias false)
      set(kv_heads 8)
      if(NOT window EQUAL 0)
        set(layer_type sliding_attention)
      endif()
    else()
      storylm_json_field(d_ff COUNT "${json}" intermediate_size 11008)
      storylm_json_field(max_len COUNT "${json}" max_position_embeddings 2048)
      storylm_json_none("${json}" sliding_window "Llama has none")
      storylm_json_field(attention_bias BOOL "${json}" attention_bias false)
      storylm_json_field(feed_forward_bias BOOL "${json}" mlp_bias false)
      set(kv_heads "")
    endif()
    storylm_json_field(vocab_size COUNT "${json}" vocab_size 32000)
    storylm_json_field(d_model COUNT "${json}" hidden_size 4096)
    storylm_json_field(n_layers COUNT "${json}" num_hidden_layers 32)
    storylm_json_field(n_heads COUNT "${json}" num_attention_heads 32)
    if(kv_heads STREQUAL "")
      set(kv_heads ${n_heads})
    endif()
    storylm_json_field(n_kv_heads COUNT "${json}" num_key_value_heads ${kv_heads} ${n_heads})
    storylm_json_field(head_dim COUNT "${json}" head_dim 0 0)
    storylm_json_field(tied BOOL "${json}" tie_word_embeddings false)
    storylm_json_field(activation TEXT "${json}" hidden_act silu)
    if(NOT activation MATCHES "^(silu|swish)$")
      message(FATAL_ERROR "${storylm_context}\"hidden_act\" is \"${activation}\", which is not supported: expected \"silu\"")
    endif()
    storylm_json_field(eps REAL "${json}" rms_norm_eps 1e-6)
    storylm_json_rope_theta(theta "${json}")
    storylm_json_type(type "${json}" layer_types)
    if(type STREQUAL "ARRAY")
      string(JSON length LENGTH "${json}" layer_types)
      set(position 0)
      while(position LESS length)
        string(JSON kind GET "${json}" layer_types ${position})
        if(NOT kind STREQUAL layer_type)
          message(FATAL_ERROR "${storylm_context}\"layer_types\" has \"${kind}\", which is not supported: expected "
                              "\"${layer_type}\" in every layer")
        endif()
        math(EXPR position "${position} + 1")
      endwhile()
    endif()
    set(feed_forward swiglu)
    set(norm rms_norm)
    set(positions rope_half)
  endif()
  if(eps LESS 0 OR NOT eps LESS 1)
    message(FATAL_ERROR "${storylm_context}what norms add is ${eps}, expected 0 to 1")
  endif()
  math(EXPR rest "${d_model} % ${n_heads}")
  if(head_dim EQUAL 0 AND NOT rest EQUAL 0)
    message(FATAL_ERROR "${storylm_context}the width ${d_model} is not a multiple of the ${n_heads} heads")
  elseif(head_dim EQUAL 0)
    math(EXPR head_dim "${d_model} / ${n_heads}")
  endif()
  math(EXPR odd "${head_dim} % 2")
  if(odd)
    message(FATAL_ERROR "${storylm_context}the head size is ${head_dim}, expected an even number")
  endif()
  math(EXPR rest "${n_heads} % ${n_kv_heads}")
  if(NOT rest EQUAL 0)
    message(FATAL_ERROR "${storylm_context}the ${n_heads} heads are not a multiple of the ${n_kv_heads} heads of keys and values")
  endif()
  file(CONFIGURE OUTPUT ${header} @ONLY CONTENT [=[
// SPDX-License-Identifier: MIT
// Generated by CMake from a config.json (storylm_add_preset); edit that.
/// @file
/// @brief The preset @name@.
#pragma once

#include <storylm/models/config.hpp>
#include <storylm/models/presets.hpp>
#include <storylm/nn/transformer_stack.hpp>

namespace storylm::presets {

/// Shape of a Hugging Face folder.
inline constexpr TransformerConfig @name@ = {
    .vocab_size = @vocab_size@,
    .d_model = @d_model@,
    .d_ff = @d_ff@,
    .n_layers = @n_layers@,
    .n_heads = @n_heads@,
    .n_kv_heads = @n_kv_heads@,
    .head_dim = @head_dim@,
    .max_len = @max_len@,
    .sliding_window = @window@,
    .norm = NormKind::@norm@,
    .pre_norm = true,
    .feed_forward = FeedForwardKind::@feed_forward@,
    .positions = PositionKind::@positions@,
    .tie_head = @tied@,
    .qkv_bias = @attention_bias@,
    .attention_out_bias = @attention_bias@,
    .feed_forward_bias = @feed_forward_bias@,
    .head_bias = false};
static_assert(ValidConfig<@name@>::value);

/// Its constants; weights come from the folder.
inline constexpr TransformerOptions @name@_options = {
    .norm_eps = @eps@,
    .rope_theta = @theta@,
    .initialisation = Initialisation::none};

}  // namespace storylm::presets
]=])
endfunction()

function(storylm_add_preset NAME FOLDER)
  cmake_path(ABSOLUTE_PATH FOLDER BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/storylm_generated)
  storylm_write_hugging_face_preset("${NAME}" ${FOLDER}/config.json ${generated}/storylm_presets/${NAME}.hpp)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${FOLDER}/config.json)
  add_library(storylm_preset_${NAME} INTERFACE)
  add_library(storylm::preset_${NAME} ALIAS storylm_preset_${NAME})
  target_include_directories(storylm_preset_${NAME} INTERFACE ${generated})
  target_link_libraries(storylm_preset_${NAME} INTERFACE storylm::storylm)
endfunction()
