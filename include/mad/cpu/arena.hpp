// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The memory of a layer's values, laid out as its plan says.
#pragma once

#include <mad/cpu/block.hpp>

#include <algorithm>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace mad::cpu {

/// Aligned numbers that are not initialised unless asked.
template <class T>
class Buffer {
public:
  static constexpr std::size_t alignment = 64;

  Buffer() = default;
  explicit Buffer(Index size) { resize(size); }

  /// Keeps the memory if it is large enough; the contents are then unspecified.
  void resize(Index size) {
    if (size > capacity_) {
      data_.reset(
          static_cast<T*>(::operator new[](static_cast<std::size_t>(size) * sizeof(T), std::align_val_t{alignment})));
      capacity_ = size;
    }
    size_ = size;
  }
  void fill(T value) { std::fill_n(data_.get(), size_, value); }
  T* data() const { return data_.get(); }
  Index size() const { return size_; }
  Index bytes() const { return capacity_ * static_cast<Index>(sizeof(T)); }
  T& operator[](Index i) const { return data_.get()[i]; }

private:
  struct Release {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t{alignment}); }
  };
  std::unique_ptr<T[], Release> data_;
  Index size_ = 0;
  Index capacity_ = 0;
};

/// Numbers that the arenas of a space hold for one layer.
inline Index arena_size(const Arenas& arenas, Space space, const Shape& shape) {
  Index size = 0;
  for (int d = 0; d < domain_count; ++d) {
    const auto domain = static_cast<Domain>(d);
    size += arenas.columns_of(space, domain) * rows_of(domain, shape);
  }
  return size;
}

/// Points the arenas of a space at one block of `arena_size` numbers.
template <class T>
void place_arena(Context<T>& context, const Arenas& arenas, Space space, T* memory) {
  for (int d = 0; d < domain_count; ++d) {
    const auto domain = static_cast<Domain>(d);
    context.at(space, domain) = memory;
    memory += arenas.columns_of(space, domain) * context.rows(domain);
  }
}

/// Writes the constants among a layer's parameters: their initial values.
template <class T>
void fill_constants(std::span<const Parameter> parameters, Index max_length, T* constants) {
  std::vector<double> values;
  for (const Parameter& p : parameters) {
    if (!p.is_constant) continue;
    values.assign(static_cast<std::size_t>(p.count(max_length)), p.initial.scale);
    if (p.initial.kind == Initial::Kind::filled) p.initial.fill(p, max_length, {}, values.data());
    std::transform(values.begin(), values.end(), constants + p.offset(max_length),
                   [](double v) { return static_cast<T>(v); });
  }
}

/// What a layer computes once per training step and all micro-batches read: its prologue and prepared values.
template <class T>
class Prologue {
public:
  /// Computes the values from the layer's parameters.
  void run(const Block<T>& block, const Shape& shape, const T* parameters, const T* constants, Workspace& workspace) {
    run(*block.arenas, block.prepared_sizes, block.run[static_cast<int>(Phase::prologue)], shape, parameters, constants,
        workspace);
  }
  void run(const Arenas& arenas, void (*prepared_sizes)(const Shape&, Index*), void (*prologue)(const Context<T>&),
           const Shape& shape, const T* parameters, const T* constants, Workspace& workspace) {
    values_.resize(arena_size(arenas, Space::prologue, shape));
    values_.fill(T(0));  // sums are added
    sizes_.assign(static_cast<std::size_t>(arenas.prepared_count), 0);
    prepared_sizes(shape, sizes_.data());
    prepared_.resize(sizes_.size());
    pointers_.resize(sizes_.size());
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      prepared_[i].resize(sizes_[i]);
      pointers_[i] = prepared_[i].data();
    }
    Context<T> context(shape);
    context.parameters = parameters;
    context.constants = constants;
    context.workspace = &workspace;
    attach(context, arenas);
    prologue(context);
  }

  void attach(Context<T>& context, const Arenas& arenas) const {
    place_arena(context, arenas, Space::prologue, values_.data());
    context.prepared = pointers_.data();
  }

private:
  Buffer<T> values_;
  std::vector<Buffer<T>> prepared_;
  std::vector<T*> pointers_;
  std::vector<Index> sizes_;
};

}  // namespace mad::cpu
