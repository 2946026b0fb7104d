// The control of this folder: it must compile, so that the others are refused for their own fault and not for a wrong flag.
// SPDX-License-Identifier: MIT
#include <storylm/storylm.hpp>

static_assert(!storylm::version.empty());
