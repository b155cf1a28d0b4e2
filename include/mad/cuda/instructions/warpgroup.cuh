// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products on the tensor cores of compute capability 9.0 (code for `90a`), four warps at a time: 64 rows, which lie in
/// registers, by a factor in shared memory. They run while the warps go on.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace mad::cuda::tensor {

/// A factor of bfloat16 in shared memory: the matrix descriptor of wgmma. Its rows as they are stored are columns of
/// the product, or else summands (`Transposed`, MN-major). Addresses count by 16 bytes.
struct SharedFactor {
  std::uint64_t bits;

  /// In panels of 16, 32 or 64 columns as the copy engine writes them (tensor_map.hpp), swizzled, their rows behind
  /// each other; where rows are summands, further columns of the product are in further panels. \param address of a
  /// panel, or of a multiple of 8 rows or of 16 columns in it; panels begin at multiples of 8 rows \param row_bytes of
  /// a panel \param to_next bytes from a panel to the next
  static __device__ SharedFactor at(std::uint32_t address, int row_bytes, int to_next) {
    const std::uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
    return of_places(address, to_next, 8 * row_bytes).with(swizzle << 62);
  }
  /// In core matrices of 8 x 8, each 128 neighbouring bytes.
  /// \param along, across bytes from a core matrix to the next along the summands, and along the product's columns
  static __device__ SharedFactor of_matrices(std::uint32_t address, int along, int across) {
    return of_places(address, along, across);
  }
  __device__ SharedFactor behind(int bytes) const { return {bits + static_cast<std::uint64_t>(bytes >> 4)}; }

private:
  /// With leading and stride byte offsets.
  static __device__ SharedFactor of_places(std::uint32_t address, int leading, int stride) {
    return {(address & 0x3ffff) >> 4 | static_cast<std::uint64_t>(leading >> 4) << 16 |
            static_cast<std::uint64_t>(stride >> 4) << 32};
  }
  __device__ SharedFactor with(std::uint64_t more) const { return {bits | more}; }
};

/// wgmma.fence: products read what has been written to registers and, by this thread or others before a barrier, to
/// shared memory.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
/// Ends a group of products.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
/// Waits for the products of this warp's four, but for those in the last `Groups` groups.
template <int Groups = 0>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Groups) : "memory");
}
/// All four warps give registers away, or get some, so that a thread has `Count`, a multiple of 8.
template <int Count>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(Count));
}
template <int Count>
__device__ inline void get_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(Count));
}
/// Registers have their values here: what writes them stays before this place, and what reads them behind it, though
/// neither compiler sees that products read and write them meanwhile.
template <int Count>
__device__ inline void pin(Sums (&sums)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i)
    asm volatile("" : "+f"(sums[i].value[0]), "+f"(sums[i].value[1]), "+f"(sums[i].value[2]), "+f"(sums[i].value[3]));
}
template <int Count>
__device__ inline void pin(Left<16> (&rows)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i)
    asm volatile("" : "+r"(rows[i].part[0]), "+r"(rows[i].part[1]), "+r"(rows[i].part[2]), "+r"(rows[i].part[3]));
}
template <int Count>
__device__ inline void pin(std::uint32_t (&words)[Count][2]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(words[i][0]), "+r"(words[i][1]));
}

#define MAD_SUMS(s) "+f"((s).value[0]), "+f"((s).value[1]), "+f"((s).value[2]), "+f"((s).value[3])

/// Starts sums = rows x factor, or sums += that; `Columns` is 16, 32, 64 or 128. \p sums is the first of Columns / 8.
template <int Columns, bool Transposed>
__device__ inline void multiply_add_async(Sums* sums, const Left<16>& rows, SharedFactor factor, bool add) {
  static_assert(Columns == 16 || Columns == 32 || Columns == 64 || Columns == 128);
  const int keep = add ? 1 : 0;
  if constexpr (Columns == 16)
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %13, 0; "
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7}, "
        "{%8,%9,%10,%11}, %12, p, 1, 1, %14; }"
        : MAD_SUMS(sums[0]), MAD_SUMS(sums[1])
        : "r"(rows.part[0]), "r"(rows.part[1]), "r"(rows.part[2]), "r"(rows.part[3]), "l"(factor.bits), "r"(keep),
          "n"(Transposed ? 1 : 0));
  if constexpr (Columns == 32)
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %21, 0; "
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
        "{%16,%17,%18,%19}, %20, p, 1, 1, %22; }"
        : MAD_SUMS(sums[0]), MAD_SUMS(sums[1]), MAD_SUMS(sums[2]), MAD_SUMS(sums[3])
        : "r"(rows.part[0]), "r"(rows.part[1]), "r"(rows.part[2]), "r"(rows.part[3]), "l"(factor.bits), "r"(keep),
          "n"(Transposed ? 1 : 0));
  if constexpr (Columns == 64)
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %37, 0; "
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
        "{%32,%33,%34,%35}, %36, p, 1, 1, %38; }"
        : MAD_SUMS(sums[0]), MAD_SUMS(sums[1]), MAD_SUMS(sums[2]), MAD_SUMS(sums[3]), MAD_SUMS(sums[4]),
          MAD_SUMS(sums[5]), MAD_SUMS(sums[6]), MAD_SUMS(sums[7])
        : "r"(rows.part[0]), "r"(rows.part[1]), "r"(rows.part[2]), "r"(rows.part[3]), "l"(factor.bits), "r"(keep),
          "n"(Transposed ? 1 : 0));
  if constexpr (Columns == 128)
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %69, 0; "
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
        "{%64,%65,%66,%67}, %68, p, 1, 1, %70; }"
        : MAD_SUMS(sums[0]), MAD_SUMS(sums[1]), MAD_SUMS(sums[2]), MAD_SUMS(sums[3]), MAD_SUMS(sums[4]),
          MAD_SUMS(sums[5]), MAD_SUMS(sums[6]), MAD_SUMS(sums[7]), MAD_SUMS(sums[8]), MAD_SUMS(sums[9]),
          MAD_SUMS(sums[10]), MAD_SUMS(sums[11]), MAD_SUMS(sums[12]), MAD_SUMS(sums[13]), MAD_SUMS(sums[14]),
          MAD_SUMS(sums[15])
        : "r"(rows.part[0]), "r"(rows.part[1]), "r"(rows.part[2]), "r"(rows.part[3]), "l"(factor.bits), "r"(keep),
          "n"(Transposed ? 1 : 0));
}

/// Starts sums += left x right, both in shared memory, stored with their summands as rows: 64 columns of the left one
/// by 128 of the right one, 16 rows of each.
__device__ inline void multiply_add_rows_async(Sums (&sums)[16], SharedFactor left, SharedFactor right) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 1, 1;"
      : MAD_SUMS(sums[0]), MAD_SUMS(sums[1]), MAD_SUMS(sums[2]), MAD_SUMS(sums[3]), MAD_SUMS(sums[4]),
        MAD_SUMS(sums[5]), MAD_SUMS(sums[6]), MAD_SUMS(sums[7]), MAD_SUMS(sums[8]), MAD_SUMS(sums[9]),
        MAD_SUMS(sums[10]), MAD_SUMS(sums[11]), MAD_SUMS(sums[12]), MAD_SUMS(sums[13]), MAD_SUMS(sums[14]),
        MAD_SUMS(sums[15])
      : "l"(left.bits), "l"(right.bits));
}
/// Starts sums += left x right, both in shared memory: 64 rows by 128 columns, 16 summands. These are rows of the right
/// factor as it is stored, and of the left one columns.
__device__ inline void multiply_add_stored_async(Sums (&sums)[16], SharedFactor left, SharedFactor right) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 1;"
      : MAD_SUMS(sums[0]), MAD_SUMS(sums[1]), MAD_SUMS(sums[2]), MAD_SUMS(sums[3]), MAD_SUMS(sums[4]),
        MAD_SUMS(sums[5]), MAD_SUMS(sums[6]), MAD_SUMS(sums[7]), MAD_SUMS(sums[8]), MAD_SUMS(sums[9]),
        MAD_SUMS(sums[10]), MAD_SUMS(sums[11]), MAD_SUMS(sums[12]), MAD_SUMS(sums[13]), MAD_SUMS(sums[14]),
        MAD_SUMS(sums[15])
      : "l"(left.bits), "l"(right.bits));
}
/// The same with a right factor of 8 columns that is the same in all of them, so that its order does not matter: sums
/// of 64 columns.
__device__ inline void add_columns_async(Sums& sums, SharedFactor left, SharedFactor ones) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 1, 0;"
               : MAD_SUMS(sums)
               : "l"(left.bits), "l"(ones.bits));
}

#undef MAD_SUMS

}  // namespace mad::cuda::tensor

#endif
