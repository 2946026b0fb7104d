// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <span>
#include <string>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/memory_map.hpp>

#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
using detail::AtomicFile;

namespace {
std::ptrdiff_t files_in(const TemporaryFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}
}  // namespace

TEST_CASE("a file appears when it is published, and replaces an older one") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.txt", "old");
  {
    AtomicFile file(folder / "a.txt");
    file.write(std::string_view("new"));
    CHECK(read_bytes(folder / "a.txt") == "old");
    file.publish();
    CHECK(file.size() == 3);
  }
  CHECK(read_bytes(folder / "a.txt") == "new");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("without publish() nothing remains") {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "a.txt");
    file.write(std::string_view("half"));
    file.flush();
    CHECK(read_bytes(file.temporary()) == "half");
    CHECK(files_in(folder) == 1);
  }
  CHECK(files_in(folder) == 0);
}

TEST_CASE("large and small writes keep their order, and written bytes can be overwritten") {
  const TemporaryFolder folder;
  std::string expected;
  AtomicFile file(folder / "a.bin");
  for (int i = 0; i < 40; ++i) {
    const std::string part(static_cast<std::size_t>(i % 4 == 0 ? (2 << 20) + i : 70000 + i),
                           static_cast<char>('a' + i % 26));
    file.write(std::string_view(part));
    expected += part;
  }
  const std::string head = "HEADER";
  file.overwrite(2, std::as_bytes(std::span(head)));
  expected.replace(2, head.size(), head);
  CHECK_THROWS_AS(file.overwrite(file.size() - 2, std::as_bytes(std::span(head))), ArgumentError);
  file.publish();
  CHECK(read_bytes(folder / "a.bin") == expected);
}

TEST_CASE("what an interrupted process left behind is overwritten") {
  const TemporaryFolder folder;
  write_bytes(folder / ".a.txt.partial", "a long text of a process that was killed");
  AtomicFile file(folder / "a.txt");
  file.write(std::string_view("short"));
  file.publish();
  CHECK(read_bytes(folder / "a.txt") == "short");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("nothing is written through a link, or into a pipe, that lies where the file is made") {
  const TemporaryFolder folder;
  const TemporaryFolder elsewhere;
  write_bytes(elsewhere / "other", "not ours");
  std::filesystem::create_symlink(elsewhere / "other", folder / ".x.partial");
  const std::string message = error_of<WriteError>([&] { AtomicFile file(folder / "x"); });
  CHECK(contains(message, "cannot write"));
  CHECK(read_bytes(elsewhere / "other") == "not ours");
  CHECK(!std::filesystem::exists(folder / "x"));

  std::filesystem::remove(folder / ".x.partial");
  REQUIRE(::mkfifo((folder / ".x.partial").c_str(), 0600) == 0);
  CHECK(contains(error_of<WriteError>([&] { AtomicFile file(folder / "x"); }), "is a special file"));

  // A link under the file's own name is replaced, not followed.
  std::filesystem::remove(folder / ".x.partial");
  std::filesystem::create_symlink(elsewhere / "other", folder / "x");
  AtomicFile file(folder / "x");
  file.write("ours");
  file.publish();
  CHECK(read_bytes(elsewhere / "other") == "not ours");
  CHECK(read_bytes(folder / "x") == "ours");
  CHECK(!std::filesystem::is_symlink(folder / "x"));
}

TEST_CASE("two writers of one file are told apart") {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a.txt");
  first.write(std::string_view("first"));
  const std::string message = error_of<WriteError>([&] { AtomicFile second(folder / "a.txt"); });
  CHECK(contains(message, "another program is writing"));
  CHECK(contains(message, "a.txt"));
  first.publish();
  CHECK(read_bytes(folder / "a.txt") == "first");
  AtomicFile third(folder / "a.txt");  // free again
}

TEST_CASE("files that belong together appear when all are complete") {
  const TemporaryFolder folder;
  AtomicFile a(folder / "a");
  AtomicFile b(folder / "b");
  a.write(std::string_view("1"));
  b.write(std::string_view("2"));
  CHECK(!std::filesystem::exists(folder / "a"));
  AtomicFile::publish_all({&a, &b});
  CHECK(read_bytes(folder / "a") == "1");
  CHECK(read_bytes(folder / "b") == "2");
}

TEST_CASE("the file that is replaced stays as the predecessor, and the one before it goes") {
  const TemporaryFolder folder;
  const auto write = [&](const char* text) {
    AtomicFile file(folder / "last");
    file.write(std::string_view(text));
    file.publish_keeping(folder / "previous");
  };
  write("1");
  CHECK(read_bytes(folder / "last") == "1");
  CHECK(files_in(folder) == 1);
  write("2");
  CHECK(read_bytes(folder / "last") == "2");
  CHECK(read_bytes(folder / "previous") == "1");
  write("3");
  CHECK(read_bytes(folder / "last") == "3");
  CHECK(read_bytes(folder / "previous") == "2");
  CHECK(files_in(folder) == 2);

  // Killed between the two renames: both names are the same file's, and nothing else is left behind by the next.
  std::filesystem::remove(folder / "previous");
  std::filesystem::create_hard_link(folder / "last", folder / "previous");
  write_bytes(folder / ".previous.partial", "left behind");
  write("4");
  CHECK(read_bytes(folder / "last") == "4");
  CHECK(read_bytes(folder / "previous") == "3");
  CHECK(files_in(folder) == 2);

  // Until the new one is complete, there are both.
  {
    AtomicFile file(folder / "last");
    file.write(std::string_view("5"));
    file.sync();
    CHECK(read_bytes(folder / "previous") == "3");
  }
  CHECK(read_bytes(folder / "last") == "4");
  CHECK(read_bytes(folder / "previous") == "3");
  std::filesystem::remove(folder / "previous");
  std::filesystem::create_directory(folder / "previous");
  CHECK(contains(error_of<WriteError>([&] { write("6"); }), "cannot rename"));
  CHECK(read_bytes(folder / "last") == "4");
  CHECK(files_in(folder) == 2);
}

TEST_CASE("what cannot be written is said with the path and the reason") {
  const TemporaryFolder folder;
  CHECK(
      contains(error_of<WriteError>([&] { AtomicFile file(folder / "missing/a.txt"); }), "No such file or directory"));
  CHECK(contains(error_of<WriteError>([&] { AtomicFile file(folder.path()); }), "is a folder"));
}

TEST_CASE("when the disk is full nothing appears and nothing is left") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.txt", "old");
  // No full disk is at hand: a limit on the size of files makes the same system call fail.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit limited = before;
  limited.rlim_cur = 100'000;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limited) == 0);
  const std::string message = error_of<WriteError>([&] {
    AtomicFile file(folder / "a.txt");
    file.write(std::string(200'000, 'x'));
    file.publish();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(contains(message, "File too large"));
  CHECK(contains(message, "a.txt"));
  CHECK(read_bytes(folder / "a.txt") == "old");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a mapped file is its bytes; an empty one has none") {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "bytes");
  const detail::MemoryMap map(folder / "a", "test");
  REQUIRE(map.bytes().size() == 5);
  CHECK(std::to_integer<char>(map.bytes()[4]) == 's');
  write_bytes(folder / "empty", "");
  CHECK(detail::MemoryMap(folder / "empty", "test").bytes().empty());
}

TEST_CASE("folders, special files and missing files cannot be mapped or read") {
  const TemporaryFolder folder;
  CHECK(contains(error_of<IoError>([&] { detail::MemoryMap map(folder.path(), "test"); }), "is a folder, not a file"));
  CHECK(contains(error_of<IoError>([&] { detail::MemoryMap map(folder / "none", "test"); }),
                 "No such file or directory"));
  CHECK(contains(error_of<IoError>([&] { detail::MemoryMap map("/dev/null", "test"); }), "special file"));
  write_bytes(folder / "large", std::string(100, 'x'));
  CHECK(detail::read_file(folder / "large", "test").size() == 100);
  CHECK(contains(error_of<IoError>([&] { (void)detail::read_file(folder / "large", "test", 99); }), "100 bytes"));
}
