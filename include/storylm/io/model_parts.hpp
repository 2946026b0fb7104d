// SPDX-License-Identifier: MIT
/// @file
/// @brief From tensors of safetensors files into a model's parameters: what checkpoints and Hugging Face folders share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <storylm/io/config_json.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/nn/module.hpp>

namespace storylm::detail {

/// Calls f(parameter, part) for every tensor of a file that the model is made of.
template <class Stack, class F>
void for_each_part(Stack& model, F&& f) {
  const io::NameFamily family = io::name_family(model.shape());
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    for (const io::FileTensor& part : io::file_tensors(family, model.shape(), name, p.shape())) f(p, part);
  });
}

/// @throws FormatError naming the first field in which the file's model is another
inline void expect_description(const io::ModelDescription& expected, const io::ModelDescription& found,
                               std::string_view path) {
  boost::json::object wanted = io::config_to_json(expected);
  if (!expected.config.uses_rope()) wanted.erase("rope_theta");
  const boost::json::object has = io::config_to_json(found);
  for (const auto& field : wanted) {
    expects<FormatError>(has.at(field.key()) == field.value(), "model", path, ": ", field.key(), " is ",
                         io::json_text(has.at(field.key())), ", expected ", io::json_text(field.value()));
  }
}

/// Before anyone makes a model of this shape: a small file must not ask for much memory. In double, for a hostile shape
/// overflows integers. @param stored elements of all tensors of the file @param tensors number of them: elements may be
/// a hole in a sparse file, names are not @throws FormatError
inline void expect_enough_weights(const TransformerConfig& config, double stored, std::size_t tensors,
                                  std::string_view path) {
  const TransformerConfig c = config.resolved();
  const double weights = static_cast<double>(c.n_layers) * c.d_model * (4.0 * c.d_ff + 4.0 * c.n_heads * c.head_dim);
  const double positions = c.positions == PositionKind::learned ? c.max_len : 0.0;
  const double least = (positions + c.vocab_size) * c.d_model + weights / 4.0;
  expects<FormatError>(least <= stored, "model", path, ": the config asks for ", least,
                       " weights or more, the file holds ", stored);
  expects<FormatError>(static_cast<double>(c.n_layers) <= static_cast<double>(tensors), "model", path,
                       ": the config asks for ", c.n_layers, " layers, the file holds ", tensors, " tensors");
}

/// @throws FormatError unless the tensor is of floating-point numbers
inline void expect_float(const io::SafetensorsFile& file, const io::StoredTensor& tensor) {
  expects<FormatError>(tensor.dtype == io::file_dtype<float> || tensor.dtype == io::file_dtype<double> ||
                           tensor.dtype == io::file_dtype<half> || tensor.dtype == io::file_dtype<bf16>,
                       "model", file.path(), ": tensor ", io::shown_name(tensor.name), " is ", tensor.dtype.name,
                       ", expected F32 or another float type");
}

/// Values as they lie in a file, not necessarily aligned, as another float type.
template <class From, class To>
void convert_values(const std::byte* from, std::span<To> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    to[i] = io::converted<To>(value);
  }
}

/// Columns first, first + 1, ... of a matrix in a file, each as a row of `to`.
/// @param from (rows, cols)
/// @param to (count, rows)
template <class From, class To>
void convert_columns(const std::byte* from, index_t rows, index_t cols, index_t first, index_t count, To* to) {
  constexpr index_t tile = 16;  // of floats: a cache line on either side
  for (index_t r0 = 0; r0 < rows; r0 += tile)
    for (index_t c0 = 0; c0 < count; c0 += tile)
      for (index_t c = c0; c < std::min(c0 + tile, count); ++c)
        for (index_t r = r0; r < std::min(r0 + tile, rows); ++r) {
          From value;
          std::memcpy(&value, from + static_cast<std::size_t>(r * cols + first + c) * sizeof(From), sizeof(From));
          to[c * rows + r] = io::converted<To>(value);
        }
}

/// Bytes of a file that loading handles at a time: what is resident of it, and ahead of that.
inline constexpr std::size_t load_piece = std::size_t{8} << 20U;

/// Calls f(begin, end) for parts of 0 to count, as many as there are cores and of `least` or more, at the same time.
template <class F>
void in_threads(index_t count, index_t least, const F& f) {
  const index_t cores = std::max(1U, std::thread::hardware_concurrency());
  const index_t parts = std::clamp<index_t>(count / least, 1, cores);
  const index_t size = (count + parts - 1) / parts;
  std::vector<std::thread> threads;
  index_t begin = 0;
  try {
    threads.reserve(static_cast<std::size_t>(parts - 1));
    for (; begin + size < count; begin += size) threads.emplace_back([&f, begin, size] { f(begin, begin + size); });
  } catch (const std::system_error&) {  // no more threads are to be had: the rest is done here
  } catch (const std::bad_alloc&) {     // nor memory for them
  }
  f(begin, count);
  for (std::thread& thread : threads) thread.join();
}

/// @throws FormatError unless every finite number of a tensor of From is one of To, too
template <class From, class To>
void expect_finite_as(const io::SafetensorsFile& file, const io::StoredTensor& tensor) {
  const auto is_lost = [](From value) {
    return std::isfinite(io::converted<double>(value)) &&
           !std::isfinite(io::converted<double>(io::converted<To>(value)));
  };
  const std::byte* const bytes = file.raw(tensor).data();
  const auto value_at = [bytes](index_t i) {
    From value;
    std::memcpy(&value, bytes + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    return value;
  };
  constexpr auto count = static_cast<index_t>(load_piece / sizeof(From));
  for (index_t at = 0; at < tensor.size; at += count) {
    const index_t now = std::min(count, tensor.size - at);
    std::atomic<bool> lost = false;
    in_threads(now, index_t{1} << 17U, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i)
        if (is_lost(value_at(at + i))) lost = true;
    });
    for (index_t i = at; lost && i < at + now; ++i) {
      expects<FormatError>(!is_lost(value_at(i)), "model", file.path(), ": tensor ", io::shown_name(tensor.name),
                           " has ", io::converted<double>(value_at(i)), " at element ", i, ", which is too large for ",
                           io::file_dtype<To>.name);
    }
    file.release(tensor, static_cast<std::size_t>(at) * sizeof(From), static_cast<std::size_t>(now) * sizeof(From));
  }
}

/// Loading must not make infinities of numbers. Only for types of a smaller range than the tensor's; bf16 has that of
/// float but for its last 0.2 %, where no weights are, so that an F32 file is not read twice for it.
/// @throws FormatError naming the number that has no place in a parameter like `p`
template <class P>
void expect_range(const P&, const io::SafetensorsFile& file, const io::StoredTensor& tensor) {
  using Value = typename P::value_type;
  if (tensor.dtype == io::file_dtype<double> && !std::same_as<Value, double>)
    return expect_finite_as<double, Value>(file, tensor);
  if constexpr (std::same_as<Value, half>) {
    if (tensor.dtype == io::file_dtype<float>) return expect_finite_as<float, Value>(file, tensor);
    if (tensor.dtype == io::file_dtype<bf16>) return expect_finite_as<bf16, Value>(file, tensor);
  }
}

/// Bytes that load_part() needs beside file and parameter, so that they can be had before the first parameter is set.
template <class P>
std::size_t load_bytes(const P&, const io::FileTensor& part, const io::StoredTensor& tensor) {
  constexpr std::size_t largest = std::max(sizeof(typename P::value_type), sizeof(typename P::gradient_type));
  const std::size_t all = static_cast<std::size_t>(tensor.size) * largest;
  if (!part.transposed) return std::min(all, load_piece / tensor.dtype.bytes * largest);
  return std::min(all, std::max(load_piece, 16 * static_cast<std::size_t>(part.shape[0]) * largest));
}

/// Part of a parameter from a tensor of From, by way of To: what is of that type is copied as it is. The pages of the
/// file are given back as they are done with, so that model and file need not both fit into memory.
template <class From, class To, class P>
void load_part_by(P& p, const io::FileTensor& part, const io::SafetensorsFile& file, const io::StoredTensor& tensor,
                  std::span<std::byte> buffer) {
  const std::byte* const bytes = file.raw(tensor).data();
  const index_t first = part.first_row * (p.shape().rank() == 2 ? p.shape().cols() : 1);
  constexpr index_t least = index_t{1} << 17U;  // elements that are worth a thread
  To* const piece = reinterpret_cast<To*>(buffer.data());
  if (part.transposed) {
    const index_t rows = part.shape[0];  // of the file: columns of the parameter
    const index_t cols = part.shape[1];
    if (tensor.size == 0) return;
    const index_t fitting = static_cast<index_t>(load_piece / sizeof(To)) / rows / 16 * 16;
    const index_t count = std::min(cols, std::max<index_t>(fitting, 16));
    for (index_t at = 0; at < cols; at += count) {
      const index_t now = std::min(count, cols - at);
      in_threads(now, std::max<index_t>(16, least / rows), [&](index_t begin, index_t end) {
        convert_columns<From>(bytes, rows, cols, at + begin, end - begin, piece + begin * rows);
      });
      p.assign_part(first + at * rows, std::span<const To>(piece, static_cast<std::size_t>(now * rows)));
    }
    file.release(tensor, 0, tensor.bytes());
    return;
  }
  const bool as_it_is = std::same_as<From, To> && reinterpret_cast<std::uintptr_t>(bytes) % alignof(To) == 0;
  constexpr auto count = static_cast<index_t>(load_piece / sizeof(From));
  for (index_t at = 0; at < tensor.size; at += count) {
    const index_t now = std::min(count, tensor.size - at);
    const auto begin = static_cast<std::size_t>(at) * sizeof(From);
    const auto now_bytes = static_cast<std::size_t>(now) * sizeof(From);
    file.prefetch(tensor, begin + now_bytes, load_piece);
    const To* values = piece;
    if (as_it_is) {
      values = reinterpret_cast<const To*>(bytes + begin);
    } else {
      in_threads(now, least, [&](index_t from, index_t to) {
        convert_values<From>(bytes + begin + static_cast<std::size_t>(from) * sizeof(From),
                             std::span<To>(piece + from, static_cast<std::size_t>(to - from)));
      });
    }
    p.assign_part(first + at, std::span<const To>(values, static_cast<std::size_t>(now)));
    file.release(tensor, begin, now_bytes);
  }
}

/// The same: rounded at once where only rounded values are kept.
template <class From, class P>
void load_part_as(P& p, const io::FileTensor& part, const io::SafetensorsFile& file, const io::StoredTensor& tensor,
                  std::span<std::byte> buffer) {
  using Value = typename P::value_type;
  using Master = typename P::gradient_type;
  if constexpr (std::same_as<From, Value> || std::same_as<Value, Master>) {
    load_part_by<From, Value>(p, part, file, tensor, buffer);
  } else {
    p.has_master() ? load_part_by<From, Master>(p, part, file, tensor, buffer)
                   : load_part_by<From, Value>(p, part, file, tensor, buffer);
  }
}

/// Part of a parameter from a tensor that has passed expect_float() and is of the part's shape.
/// @param buffer of load_bytes() or more, aligned as operator new does
template <class P>
void load_part(P& p, const io::FileTensor& part, const io::SafetensorsFile& file, const io::StoredTensor& tensor,
               std::span<std::byte> buffer) {
  if (tensor.dtype == io::file_dtype<float>) return load_part_as<float>(p, part, file, tensor, buffer);
  if (tensor.dtype == io::file_dtype<bf16>) return load_part_as<bf16>(p, part, file, tensor, buffer);
  if (tensor.dtype == io::file_dtype<half>) return load_part_as<half>(p, part, file, tensor, buffer);
  return load_part_as<double>(p, part, file, tensor, buffer);
}

}  // namespace storylm::detail
