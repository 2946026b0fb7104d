// SPDX-License-Identifier: MIT
#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include <storylm/detail/atomic_folder.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
using storylm::detail::AtomicFolder;
namespace fs = std::filesystem;

TEST_CASE("a folder appears whole when it is published, and not before") {
  const TemporaryFolder folder;
  {
    AtomicFolder out(folder / "out");
    write_bytes(out.temporary() / "a", "1");
    CHECK(!fs::exists(folder / "out"));
    CHECK(out.temporary() == folder / ".out.partial");
    out.publish();
    CHECK(read_bytes(folder / "out/a") == "1");
  }
  CHECK(read_bytes(folder / "out/a") == "1");
  CHECK(!fs::exists(folder / ".out.partial"));
}

TEST_CASE("without publish() nothing stays") {
  const TemporaryFolder folder;
  {
    const AtomicFolder out(folder / "out/");
    write_bytes(out.temporary() / "a", "1");
  }
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("what is there is kept: a file, a folder with something in it, a link that leads nowhere") {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "kept");
  fs::create_directory(folder / "full");
  write_bytes(folder / "full/a", "kept");
  fs::create_symlink("nowhere", folder / "link");
  CHECK(contains(error_of<ArgumentError>([&] { AtomicFolder out(folder / "file"); }),
                 "file\" is there already and no folder"));
  CHECK(contains(error_of<ArgumentError>([&] { AtomicFolder out(folder / "full"); }),
                 "full\" is there already and not empty"));
  CHECK(contains(error_of<ArgumentError>([&] { AtomicFolder out(folder / "link"); }), "link\" is there already"));
  CHECK(contains(error_of<ArgumentError>([&] { AtomicFolder out(folder / ".."); }), "names no new folder"));
  CHECK(read_bytes(folder / "file") == "kept");
  CHECK(read_bytes(folder / "full/a") == "kept");

  AtomicFolder late(folder / "late");  // someone else is faster
  fs::create_directory(folder / "late");
  write_bytes(folder / "late/a", "kept");
  CHECK(contains(error_of<ArgumentError>([&] { late.publish(); }), "not empty"));
  CHECK(read_bytes(folder / "late/a") == "kept");
}

TEST_CASE("an empty folder is filled") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  AtomicFolder out(folder / "out");
  write_bytes(out.temporary() / "a", "1");
  out.publish();
  CHECK(read_bytes(folder / "out/a") == "1");
}

TEST_CASE("what a killed program left is removed; two at once are told apart") {
  const TemporaryFolder folder;
  fs::create_directories(folder / ".out.partial/deep");
  write_bytes(folder / ".out.partial/deep/old", "old");
  AtomicFolder out(folder / "out");
  CHECK(fs::is_empty(out.temporary()));
  CHECK(contains(error_of<WriteError>([&] { AtomicFolder second(folder / "out"); }), "another program is writing"));
  CHECK(contains(error_of<WriteError>([&] { AtomicFolder second(folder / "none/out"); }), "cannot make"));
}

TEST_CASE("a link or a file under the temporary name is refused, and what a link leads to is kept") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "precious");
  write_bytes(folder / "precious/a", "kept");
  fs::create_directory_symlink(folder / "precious", folder / ".out.partial");
  CHECK(contains(error_of<WriteError>([&] { AtomicFolder out(folder / "out"); }), "cannot open"));
  CHECK(read_bytes(folder / "precious/a") == "kept");
  write_bytes(folder / ".other.partial", "kept");
  CHECK(contains(error_of<WriteError>([&] { AtomicFolder out(folder / "other"); }), "cannot open"));
  CHECK(read_bytes(folder / ".other.partial") == "kept");
}

TEST_CASE("what a killed program left and cannot be removed is said as such") {
  const TemporaryFolder folder;
  const fs::path left = folder / ".out.partial/deep";
  fs::create_directories(left);
  write_bytes(left / "old", "old");
  fs::permissions(left, fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() != 0)  // root may remove everything
    CHECK(contains(error_of<WriteError>([&] { AtomicFolder out(folder / "out"); }), "cannot empty"));
  fs::permissions(left, fs::perms::owner_all);
  const AtomicFolder out(folder / "out");
  CHECK(fs::is_empty(out.temporary()));
}
