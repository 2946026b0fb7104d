// SPDX-License-Identifier: MIT
// Boost.JSON as a library, compiled from Boost's headers where the system has no compiled one (see dependencies.md).
#include <boost/json/src.hpp>
