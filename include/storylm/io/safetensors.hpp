// SPDX-License-Identifier: MIT
/// @file
/// @brief safetensors files, the reader and the writer.
#pragma once

#include <storylm/io/safetensors_file.hpp>    // IWYU pragma: export
#include <storylm/io/safetensors_writer.hpp>  // IWYU pragma: export
