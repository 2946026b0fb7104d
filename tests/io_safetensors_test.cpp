// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief safetensors: round trips, every kind of broken file, nothing allocated for claims.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/safetensors.hpp>

#include "io_support.hpp"

namespace {
std::size_t largest_allocation = 0;
}  // namespace

// Every request for memory is seen, so that a claim in a header can be told from bytes that are there.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  largest_allocation = std::max(largest_allocation, bytes);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  void* const p = operator new(bytes, std::nothrow);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t /*bytes*/) noexcept { std::free(p); }

using namespace storylm;
using storylm::test::contains;
using storylm::test::error_of;
using storylm::test::TemporaryFolder;
using storylm::test::with_length;
using storylm::test::write_bytes;

namespace {

/// What opening a file of these bytes says; "" when it opens.
std::string refusal(const TemporaryFolder& folder, std::string_view bytes) {
  write_bytes(folder / "model.safetensors", bytes);
  return error_of([&] { const io::SafetensorsFile file(folder / "model.safetensors"); });
}

/// The header of one tensor called x.
std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return "{\"x\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":" + std::string(shape) +
         ",\"data_offsets\":" + std::string(offsets) + "}}";
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("values of every dtype survive bit for bit", T, float, double, bf16, half, std::int32_t,
                   std::uint32_t, std::int64_t, std::uint64_t, std::uint8_t) {
  const TemporaryFolder folder;
  std::vector<T> values(24);
  for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) {
    reinterpret_cast<unsigned char*>(values.data())[i] = static_cast<unsigned char>(0xF8U + i * 37U);
  }
  for (const bool with_checksums : {false, true}) {
    io::SafetensorsWriter writer({.metadata = {{"note", "line\n\"quoted\" \xC3\xA4"}}, .checksums = with_checksums});
    writer.add<T>("a", {2, 3, 4}, values);
    writer.add<T>("scalar", {}, std::span<const T>(values).subspan(3, 1));
    writer.add<T>("empty", {0, 5}, {});
    writer.save(folder / "x.safetensors");
    const io::SafetensorsFile file(folder / "x.safetensors");
    CHECK(file.has_checksums() == with_checksums);
    CHECK(file.tensors().size() == 3);
    CHECK(file.metadata().at("note") == "line\n\"quoted\" \xC3\xA4");
    CHECK(file.at("a").dtype.name == dtype_traits<T>::name);
    CHECK(file.at("a").shape_text() == "(2, 3, 4)");
    CHECK(file.at("a").begin % 8 == 0);
    CHECK(same_bits(file.read<T>("a", {2, 3, 4}), values));
    CHECK(same_bits(file.read<T>("scalar", {}), std::vector<T>{values[3]}));
    CHECK(file.read<T>("empty", {0, 5}).empty());
    const auto raw = file.raw("a");
    REQUIRE(raw.size() == values.size() * sizeof(T));
    CHECK(std::memcmp(raw.data(), values.data(), raw.size()) == 0);
  }
}

TEST_CASE("float types convert into each other, other kinds do not") {
  const TemporaryFolder folder;
  constexpr std::size_t n = 40000;  // more than two chunks
  std::vector<float> f32(n);
  std::vector<double> f64(n);
  std::vector<bf16> brain(n);
  std::vector<half> halves(n);
  std::vector<std::int64_t> integers(n);
  for (std::size_t i = 0; i < n; ++i) {
    f64[i] = (static_cast<double>(i) - 20000.0) / 3.0;
    f32[i] = static_cast<float>(f64[i]);
    brain[i] = bf16(f32[i]);
    halves[i] = half(f32[i]);
  }
  io::SafetensorsWriter writer;
  const Shape shape{4, 10000};
  writer.add<float>("f32", shape, f32);
  writer.add<double>("f64", shape, f64);
  writer.add<bf16>("bf16", shape, brain);
  writer.add<half>("f16", shape, halves);
  writer.add<std::int64_t>("i64", shape, integers);
  writer.save(folder / "x.safetensors");
  const io::SafetensorsFile file(folder / "x.safetensors");
  const auto as_float = [&](auto&& values) {
    std::vector<float> out;
    for (const auto& value : values) out.push_back(static_cast<float>(value));
    return out;
  };
  CHECK(file.read<float>("f64", shape) == f32);
  CHECK(file.read<float>("bf16", shape) == as_float(brain));
  CHECK(file.read<float>("f16", shape) == as_float(halves));
  CHECK(file.read<bf16>("f32", shape) == brain);
  CHECK(file.read<half>("f64", shape) == halves);
  CHECK(file.read<double>("f64", shape) == f64);
  CHECK(as_float(file.read<double>("bf16", shape)) == as_float(brain));
  CHECK(as_float(file.read<half>("f16", shape)) == as_float(halves));

  const std::string path = (folder / "x.safetensors").string();
  const auto failure = [&](auto&& read) { return error_of(read); };
  CHECK(failure([&] {
          static_cast<void>(file.read<float>("f32", {10000, 4}));
        }) == "[safetensors] " + path + ": tensor f32 is (4, 10000), expected (10000, 4)");
  CHECK(failure([&] { static_cast<void>(file.read<float>("f32", {40000})); }) ==
        "[safetensors] " + path + ": tensor f32 is (4, 10000), expected (40000)");
  CHECK(failure([&] { static_cast<void>(file.read<float>("g", shape)); }) ==
        "[safetensors] " + path + ": tensor g is missing");
  CHECK(failure([&] { static_cast<void>(file.read<float>("i64", shape)); }) ==
        "[safetensors] " + path + ": tensor i64 is I64, expected F32 or another of F64, F32, F16, BF16");
  CHECK(failure([&] { static_cast<void>(file.read<std::int32_t>("i64", shape)); }) ==
        "[safetensors] " + path + ": tensor i64 is I64, expected I32");
  CHECK(contains(failure([&] { static_cast<void>(file.read<std::int64_t>("f64", shape)); }), "is F64, expected I64"));
  std::vector<float> small(7);
  CHECK(contains(error_of<ShapeError>([&] { file.read<float>("f32", shape, small); }), "40000 elements, the memory 7"));
}

TEST_CASE("an unaligned file is read all the same") {
  const TemporaryFolder folder;
  const std::vector<double> values{1.5, -2.5, 3.5};
  std::string data(24, '\0');
  std::memcpy(data.data(), values.data(), 24);
  std::string header = one_tensor("F64", "[3]", "[0,24]");
  while (header.size() % 8 != 3) header += ' ';
  REQUIRE(refusal(folder, with_length(header, data)).empty());
  CHECK(io::SafetensorsFile(folder / "model.safetensors").read<double>("x", {3}) == values);
  CHECK(io::SafetensorsFile(folder / "model.safetensors").read<float>("x", {3}) ==
        std::vector<float>{1.5F, -2.5F, 3.5F});
}

TEST_CASE("every file that upstream accepts opens") {
  const TemporaryFolder folder;
  CHECK(refusal(folder, with_length("{}      ")).empty());
  CHECK(refusal(folder, with_length("\t\n{}\r ")).empty());
  CHECK(refusal(folder, with_length("{}\r\n\t ")).empty());
  CHECK(refusal(folder, with_length("{\"__metadata__\":{\"framework\":\"pt\"}}     ")).empty());
  CHECK(refusal(folder, with_length(one_tensor("I32", "[]", "[0,4]"), "\1\2\3\4")).empty());
  CHECK(refusal(folder, with_length(one_tensor("I32", "[2,2]", "[0,16]"), std::string(16, '\0'))).empty());
  CHECK(refusal(folder, with_length(one_tensor("I32", "[2,0]", "[0,0]"))).empty());
  CHECK(refusal(folder, with_length(one_tensor("F8_E4M3", "[3]", "[0,3]"), "abc")).empty());
  CHECK(io::SafetensorsFile(folder / "model.safetensors").raw("x").size() == 3);
  CHECK(contains(
      error_of([&] { static_cast<void>(io::SafetensorsFile(folder / "model.safetensors").read<float>("x", {3})); }),
      "tensor x is F8_E4M3, expected F32"));
  CHECK(refusal(folder, with_length(one_tensor("U8", "[1,1,1,1,1,1]", "[0,1]"), "a")).empty());  // rank 6
  CHECK(contains(error_of([&] {
                   static_cast<void>(io::SafetensorsFile(folder / "model.safetensors").read<std::uint8_t>("x", {1}));
                 }),
                 "tensor x is (1, 1, 1, 1, 1, 1), expected (1)"));
  // Tensors may stand in the header in another order than in the data, and ones of no bytes anywhere between.
  CHECK(refusal(folder, with_length(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},)"
                                    R"("e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},)"
                                    R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                    "xyz"))
            .empty());
  const io::SafetensorsFile file(folder / "model.safetensors");
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[1].name == "e");
  CHECK(file.read<std::uint8_t>("b", {2}) == std::vector<std::uint8_t>{'y', 'z'});
}

TEST_CASE("every kind of broken file is refused with file, cause and byte") {
  const TemporaryFolder folder;
  const std::string path = (folder / "model.safetensors").string();
  const auto broken = [&](std::string_view bytes, std::string_view part) {
    const std::string message = refusal(folder, bytes);
    CHECK(contains(message, "[safetensors] " + path + ": "));
    CHECK(contains(message, part));
  };
  broken("", "the file has 0 bytes, too few");
  broken("\1\0\0", "the file has 1 bytes, too few");
  broken(test::little_endian(60), "byte 0: the header's length is 60, but only 0 bytes follow");
  broken(test::little_endian(0xFFFFFFFFFFFFFFFFU) + "{}", "the header's length is 18446744073709551615, more than");
  broken(test::little_endian(100'000'001) + "{}", "more than the 100000000 allowed");
  broken(test::little_endian(100'000'000) + "{}", "but only 2 bytes follow");
  broken(with_length(""), "byte 8: incomplete JSON");
  broken(with_length("\xFF"), "line 1, byte 8: syntax error");
  broken(with_length("{"), "line 1, byte 9: incomplete JSON");
  broken(with_length("{} {}"), "byte 11: there is something after the document");
  broken(with_length(std::string("{}\0", 3)), "byte 10");
  broken(with_length("[]"), "the header is an array of 0, expected an object");
  broken(with_length(std::string(100000, '[')), "too deep");
  broken(with_length("{\"a\":" + std::string(50000, '{')), "syntax error");
  broken(with_length("{\"\xC3\":1}"), "byte 10");

  broken(with_length("{\"__metadata__\":[]}"), "__metadata__ is an array of 0, expected an object");
  broken(with_length("{\"__metadata__\":{\"a\":1}}"), "__metadata__: \"a\" is 1, expected a string");
  broken(with_length("{\"__metadata__\":{\"a\":null}}"), "expected a string");
  broken(with_length("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}"), "the key \"a\" stands there twice");
  broken(with_length("{\"__metadata__\":{},\"__metadata__\":{}}"), "the key \"__metadata__\" stands there twice");
  const std::string entry = R"("x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  broken(with_length("{" + entry + "," + entry + "}", "a"), "the key \"x\" stands there twice");
  broken(with_length(R"({"x":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "a"),
         "stands there twice");

  broken(with_length("{\"x\":3}"), "tensor x is described by 3, expected an object");
  broken(with_length("{\"x\":{}}"), "tensor x has no dtype");
  broken(with_length(R"({"x":{"dtype":"U8","data_offsets":[0,1]}})", "a"), "tensor x has no shape");
  broken(with_length(R"({"x":{"dtype":"U8","shape":[1]}})", "a"), "tensor x has no data_offsets");
  broken(with_length(R"({"x":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", "a"), "dtype is 8, expected a string");
  broken(with_length(one_tensor("F33", "[1]", "[0,4]"), "abcd"), "dtype \"F33\" is unknown");
  broken(with_length(one_tensor("f32", "[1]", "[0,4]"), "abcd"), "dtype \"f32\" is unknown");
  broken(with_length(one_tensor("U8", "1", "[0,1]"), "a"), "shape is 1, expected an array");
  broken(with_length(one_tensor("U8", "[1.0]", "[0,1]"), "a"), "an extent is 1E0, expected an integer");
  broken(with_length(one_tensor("U8", "[\"1\"]", "[0,1]"), "a"), "an extent is \"1\", expected an integer");
  broken(with_length(one_tensor("U8", "[-1]", "[0,1]"), "a"), "an extent is -1, expected an integer from 0");
  broken(with_length(one_tensor("U8", "[true]", "[0,1]"), "a"), "an extent is true");
  broken(with_length(one_tensor("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), "a"), "rank 17 exceeds 16");
  broken(with_length(one_tensor("U8", "[1]", "[0]"), "a"), "data_offsets is an array of 1, expected an array of 2");
  broken(with_length(one_tensor("U8", "[1]", "[0,1,2]"), "a"), "expected an array of 2");
  broken(with_length(one_tensor("U8", "[1]", "{}"), "a"), "data_offsets is an object");
  broken(with_length(one_tensor("U8", "[1]", "[-1,0]"), "a"), "a data offset is -1");
  broken(with_length(one_tensor("U8", "[1]", "[0,1e0]"), "a"), "a data offset is 1E0");
  broken(with_length(one_tensor("U8", "[1]", "[1,0]"), "a"), "data offsets 1 to 0 do not lie within");
  broken(with_length(one_tensor("U8", "[2]", "[0,2]"), "a"),
         "data offsets 0 to 2 do not lie within the file's 1 bytes");
  broken(with_length(one_tensor("U8", "[1]", "[0,9223372036854775807]"), "a"), "do not lie within");
  broken(with_length(one_tensor("U8", "[1]", "[0,18446744073709551615]"), "a"),
         "a data offset is 18446744073709551615");
  broken(with_length(one_tensor("F32", "[2]", "[0,4]"), "abcd"), "4 bytes of data, but (2) of F32 needs 8");
  broken(with_length(one_tensor("F32", "[1]", "[0,3]"), "abc"), "3 bytes of data, but (1) of F32 needs 4");

  // Products that wrap around to the size that is there.
  broken(with_length(one_tensor("F32", "[4611686018427387905]", "[0,4]"), "abcd"), "overflows 64 bits");
  broken(with_length(one_tensor("U8", "[4294967296,4294967296]", "[0,0]")), "overflows 64 bits");
  broken(with_length(one_tensor("F32", "[2,18446744073709551614]", "[0,16]"), std::string(16, 'a')),
         "an extent is 1844");
  broken(with_length(one_tensor("U8", "[9223372036854775807,9223372036854775807,0]", "[0,0]")), "overflows 64 bits");

  const auto two = [&](std::string_view a, std::string_view b, std::string_view data) {
    return with_length(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + std::string(a) +
                           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + std::string(b) + "}}",
                       data);
  };
  CHECK(refusal(folder, two("[0,2]", "[2,4]", "abcd")).empty());
  CHECK(refusal(folder, two("[2,4]", "[0,2]", "abcd")).empty());
  broken(two("[0,2]", "[1,3]", "abc"), "tensor b begins at 114, inside the one before, which ends at 115");
  broken(two("[0,2]", "[0,2]", "ab"), "inside the one before");
  broken(two("[0,2]", "[3,5]", "abcde"), "byte 115: tensor b begins at 116, after a hole from 115");
  broken(two("[1,3]", "[3,5]", "abcde"), "byte 113: tensor a begins at 114, after a hole from 113");
  broken(two("[0,2]", "[2,4]", "abcde"), "the tensors end here, but the file has 118 bytes");
  broken(with_length("{}", "a"), "byte 10: the tensors end here, but the file has 11 bytes");
  broken(with_length(one_tensor("I32", "[2,0]", "[0,0]"), "a"), "the tensors end here");

  broken(with_length("{\"a\\n" + std::string(300, 'b') + "\":3}"), "tensor \"a\\x0abbb");  // one line, not endless
  CHECK(refusal(folder, with_length("{\"a\\n" + std::string(300, 'b') + "\":3}")).size() < path.size() + 200);

  CHECK(contains(error_of<IoError>([&] { const io::SafetensorsFile file(folder / "absent"); }), "absent"));
  CHECK(contains(error_of<IoError>([&] { const io::SafetensorsFile file(folder.path()); }), "is a folder"));
}

TEST_CASE("claims of sizes take no memory") {
  const TemporaryFolder folder;
  std::vector<std::string> claims;
  claims.push_back(test::little_endian(10'000'000'000U) + std::string(1000, ' '));
  claims.push_back(test::little_endian(99'000'000U) + "{" + std::string(1000, ' '));
  claims.push_back(with_length(one_tensor("F32", "[2500000000]", "[0,10000000000]"), std::string(900, 'a')));
  claims.push_back(with_length(one_tensor("F32", "[2500000000]", "[0,900]"), std::string(900, 'a')));
  claims.push_back(with_length(one_tensor("F32", "[2500000000,0]", "[0,900]"), std::string(900, 'a')));
  for (const std::string& claim : claims) {
    write_bytes(folder / "x.safetensors", claim);
    largest_allocation = 0;
    CHECK(!error_of([&] { const io::SafetensorsFile file(folder / "x.safetensors"); }).empty());
    CHECK(largest_allocation > 0);
    CHECK(largest_allocation < 16384);
  }
  REQUIRE(refusal(folder, with_length(one_tensor("F32", "[2]", "[0,8]"), "abcdefgh")).empty());
  const io::SafetensorsFile file(folder / "model.safetensors");
  largest_allocation = 0;
  CHECK(!error_of([&] { static_cast<void>(file.read<float>("x", {2500000000})); }).empty());
  CHECK(largest_allocation < 16384);
}

TEST_CASE("a file cut anywhere is refused") {
  const TemporaryFolder folder;
  const std::vector<float> values{1.0F, 2.0F, 3.0F};
  const std::vector<std::uint8_t> bytes_of_b{1, 2};
  for (const bool with_checksums : {false, true}) {
    io::SafetensorsWriter writer({.metadata = {{"config", "{}"}}, .checksums = with_checksums});
    writer.add<float>("a", {3}, values);
    writer.add<std::uint8_t>("b", {2}, bytes_of_b);
    writer.add<float>("none", {0}, {});
    writer.save(folder / "whole");
    const std::string bytes = test::read_bytes(folder / "whole");
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      REQUIRE(!refusal(folder, std::string_view(bytes).substr(0, size)).empty());
    }
    REQUIRE(refusal(folder, bytes).empty());
    REQUIRE(!refusal(folder, bytes + '\0').empty());
  }
}

TEST_CASE("a changed byte is an error or changes nothing") {
  const TemporaryFolder folder;
  const std::vector<float> a{1.0F, 2.0F, 3.0F};
  const std::vector<std::uint8_t> b{1, 2, 3, 4, 5};
  for (const bool with_checksums : {false, true}) {
    io::SafetensorsWriter writer({.metadata = {{"config", R"({"n_heads":8})"}}, .checksums = with_checksums});
    writer.add<float>("a", {3}, a);
    writer.add<std::uint8_t>("b", {5}, b);
    writer.save(folder / "x");
    const std::string bytes = test::read_bytes(folder / "x");
    std::size_t refused = 0;
    std::size_t changes = 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (const unsigned change : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 255U}) {
        ++changes;
        test::poke(folder / "x", at, static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ change));
        try {
          const io::SafetensorsFile file(folder / "x");
          const bool in_a = at >= file.at("a").begin && at < file.at("a").end;
          const bool in_b = at >= file.at("b").begin && at < file.at("b").end;
          const auto a_read = file.read<float>("a", {3});
          const auto b_read = file.read<std::uint8_t>("b", {5});
          if (with_checksums || (!in_a && at >= bytes.size() - 17)) REQUIRE(same_bits(a_read, a));
          if (with_checksums || (!in_b && at >= bytes.size() - 17)) REQUIRE(b_read == b);
          if (with_checksums) REQUIRE(file.metadata().at("config") == R"({"n_heads":8})");
        } catch (const FormatError& error) {
          ++refused;
          REQUIRE(std::string_view(error.what()).starts_with("[safetensors] "));
        }
      }
      test::poke(folder / "x", at, bytes[at]);
    }
    CHECK(refused > 0);
    if (with_checksums) {  // all but changes in the padding, from one kind of white space to another
      CHECK(refused > changes * 99 / 100);
    }
  }
}

TEST_CASE("a damaged tensor is named with its bytes, others are still read") {
  const TemporaryFolder folder;
  const std::vector<float> a{1.0F, 2.0F};
  const std::vector<float> b{3.0F, 4.0F};
  io::SafetensorsWriter writer({.checksums = true});
  writer.add<float>("encoder.a", {2}, a);
  writer.add<float>("encoder.b", {2}, b);
  writer.save(folder / "x");
  const std::string bytes = test::read_bytes(folder / "x");
  test::poke(folder / "x", bytes.size() - 1, 'x');
  const io::SafetensorsFile file(folder / "x");
  CHECK(file.read<float>("encoder.a", {2}) == a);
  const std::string message = error_of([&] { static_cast<void>(file.read<float>("encoder.b", {2})); });
  CHECK(contains(message, "[safetensors] " + (folder / "x").string() +
                              ": tensor encoder.b is damaged: the checksum of " + "bytes " +
                              std::to_string(bytes.size() - 8) + " to " + std::to_string(bytes.size())));
  CHECK(!error_of([&] { file.verify(file.at("encoder.b")); }).empty());
  CHECK(file.raw("encoder.b").size() == 8);
}

TEST_CASE("the writer's bytes are those of the reference writer, and always the same") {
  const TemporaryFolder folder;
  io::SafetensorsWriter().save(folder / "x");
  CHECK(test::read_bytes(folder / "x") == with_length("{}      "));
  io::SafetensorsWriter({.metadata = {{"framework", "pt"}}}).save(folder / "x");
  CHECK(test::read_bytes(folder / "x") == with_length("{\"__metadata__\":{\"framework\":\"pt\"}}     "));

  // Wide elements come first, so that every tensor is aligned.
  const std::vector<std::uint8_t> bytes{1, 2, 3};
  const std::vector<double> doubles{0.5};
  const std::vector<bf16> brain{bf16(1.0F)};
  std::array<std::string, 2> files;
  for (std::string& text : files) {
    io::SafetensorsWriter writer({.checksums = true});
    writer.add<std::uint8_t>("bytes", {3}, bytes);
    writer.add<bf16>("brain", {1}, brain);
    writer.add<double>("doubles", {1}, doubles);
    writer.save(folder / "x");
    text = test::read_bytes(folder / "x");
  }
  CHECK(files[0] == files[1]);
  const io::SafetensorsFile file(folder / "x");
  CHECK(file.tensors()[0].name == "doubles");
  CHECK(file.tensors()[1].name == "brain");
  CHECK(file.tensors()[2].name == "bytes");
  for (const io::StoredTensor& tensor : file.tensors()) CHECK(tensor.begin % tensor.dtype.bytes == 0);
}

TEST_CASE("the writer takes bytes piece by piece and refuses mistakes before there is a file") {
  const TemporaryFolder folder;
  const auto give = [](std::size_t pieces) {
    return [pieces](const io::SafetensorsWriter::Sink& sink) {
      for (std::size_t i = 0; i < pieces; ++i) {
        const std::array<float, 2> piece{static_cast<float>(i), 0.5F};
        sink(std::as_bytes(std::span(piece)));
      }
    };
  };
  io::SafetensorsWriter writer;
  writer.add("big", io::file_dtype<float>, {300000, 2}, give(300000));  // more than the file's buffer
  writer.save(folder / "x");
  const auto values = io::SafetensorsFile(folder / "x").read<float>("big", {300000, 2});
  CHECK(values[2 * 299999] == 299999.0F);

  const auto save_error = [&](const io::SafetensorsWriter& broken) {
    return error_of<ArgumentError>([&] { broken.save(folder / "y"); });
  };
  for (const std::size_t pieces : {0U, 2U, 4U}) {
    io::SafetensorsWriter wrong;
    wrong.add("x", io::file_dtype<float>, {3, 2}, give(pieces));
    CHECK(contains(save_error(wrong), pieces < 3 ? "of 24 bytes" : "tensor x gives more than its 24 bytes"));
  }
  io::SafetensorsWriter odd;
  odd.add<float>("\xFF", {0}, {});
  CHECK(contains(save_error(odd), "do not make a header"));
  CHECK(contains(save_error(io::SafetensorsWriter({.metadata = {{"key", "\xC3"}}})), "do not make a header"));
  io::SafetensorsWriter twice;
  twice.add<float>("x", {0}, {});
  CHECK(contains(error_of<ArgumentError>([&] { twice.add<float>("x", {0}, {}); }), "tensor x is added twice"));
  CHECK(contains(error_of<ArgumentError>([&] { twice.add<float>("__metadata__", {0}, {}); }), "__metadata__"));
  CHECK(contains(error_of<ShapeError>([&] { twice.add<float>("y", {3}, {}); }), "tensor y is (3), but has 0 values"));

  // A failed save leaves nothing, and what was there before.
  CHECK(!std::filesystem::exists(folder / "y"));
  const std::string before = test::read_bytes(folder / "x");
  io::SafetensorsWriter failing;
  failing.add("x", io::file_dtype<float>, {2},
              [](const io::SafetensorsWriter::Sink&) { throw ArgumentError("[t] no"); });
  CHECK(error_of<ArgumentError>([&] { failing.save(folder / "x"); }) == "[t] no");
  CHECK(test::read_bytes(folder / "x") == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator()) == 1);
}

TEST_CASE("upstream's own files, valid and invalid") {
  const char* const data = std::getenv("STORYLM_REAL_DATA");
  if (data == nullptr) {
    MESSAGE("skipped: STORYLM_REAL_DATA does not name the folder of real data");
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(data) / "safetensors";
  std::ifstream index(folder / "INDEX.tsv");
  REQUIRE(index);
  std::string line;
  std::getline(index, line);
  int files = 0;
  while (std::getline(index, line)) {
    std::istringstream fields(line);
    std::string kind;
    std::string name;
    std::getline(fields, kind, '\t');
    std::getline(fields, name, '\t');
    if (name.empty()) continue;
    CAPTURE(name);
    ++files;
    const std::string message = error_of([&] {
      const io::SafetensorsFile file(folder / kind / name);
      for (const io::StoredTensor& tensor : file.tensors()) {
        REQUIRE(file.raw(tensor).size() == static_cast<std::size_t>(tensor.size) * tensor.dtype.bytes);
      }
    });
    CHECK(message.empty() == (kind == "valid"));
  }
  CHECK(files > 10);
}
