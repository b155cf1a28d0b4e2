// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The chunked form of the linear recurrence: products of decays over chunks, and the tokens of a chunk among
/// themselves.
///
/// With w the decays and b..e a chunk, the state before the chunk reaches token t through E_t = w_b ... w_t (with a
/// bonus w_b ... w_{t-1}), token s reaches the state behind it through F_s = w_{s+1} ... w_e, and token t through
/// R[t,s] = w_{s+1} ... w_t (with a bonus w_{s+1} ... w_{t-1}). All of them are running products of numbers of at most
/// 1, never quotients: the strongest decays neither overflow nor lose digits.
#pragma once

#include <mad/cpu/kernels/linear_recurrence/panels.hpp>

namespace mad::cpu::recurrence_detail {

constexpr Index chunks_in(Index tokens) { return (tokens + chunk_tokens - 1) / chunk_tokens; }

/// One decay per token repeated in all lanes of all panels.
template <class T>
Panels<const T> spread_decay(Panels<const T> decay, Index tokens, Index panels, T* buffer) {
  const Panels<T> to = packed(buffer, tokens);
  for (Index p = 0; p < panels; ++p)
    for (Index t = 0; t < tokens; ++t) Lanes<T>::store(to.at(t, p), Lanes<T>::all(*decay.at(t, 0)));
  return to;
}

/// z_t = x_t * y_t in all panels.
template <class T>
void multiply(Panels<const T> x, Panels<const T> y, Index tokens, Index panels, Panels<T> z) {
  using L = Lanes<T>;
  for (Index p = 0; p < panels; ++p)
    for (Index t = 0; t < tokens; ++t) L::store(z.at(t, p), L::mul(L::load(x.at(t, p)), L::load(y.at(t, p))));
}

/// E and F per token, and the product of all decays of each chunk.
template <class T>
struct ChunkFactors {
  Panels<T> from_before, to_behind, whole;
};

template <bool Bonus, class T>
void chunk_factors(Panels<const T> decay, Index tokens, Index panels, const ChunkFactors<T>& out) {
  using L = Lanes<T>;
  for (Index p = 0; p < panels; ++p) {
    for (Index begin = 0; begin < tokens; begin += chunk_tokens) {
      const Index end = std::min(begin + chunk_tokens, tokens);
      auto product = L::all(T(1));
      for (Index t = begin; t < end; ++t) {
        if (Bonus) L::store(out.from_before.at(t, p), product);
        product = L::mul(product, L::load(decay.at(t, p)));
        if (!Bonus) L::store(out.from_before.at(t, p), product);
      }
      L::store(out.whole.at(begin / chunk_tokens, p), product);
      product = L::all(T(1));
      for (Index t = end - 1; t >= begin; --t) {
        L::store(out.to_behind.at(t, p), product);
        product = L::mul(product, L::load(decay.at(t, p)));
      }
    }
  }
}

/// Numbers that belong to pairs (t, s), s <= t, of tokens of one chunk.
template <class T>
using Pairs = T[chunk_tokens][chunk_tokens];

/// Tokens `begin` .. `begin + count - 1` of one chunk, and what lies between them.
template <class T, bool Bonus>
class ChunkPairs {
public:
  using L = Lanes<T>;
  using Packet = typename L::Packet;

  ChunkPairs(Index begin, Index count, Panels<const T> decay) : begin_(begin), count_(count), decay_(decay) {}

  /// P[t,s] = scale (q_t . R[t,s] k_s), and on the diagonal scale (q_t . k_t), weighted with the bonus if there is one.
  void scores(Panels<const T> query, Panels<const T> key, Panels<const T> weight, Index panels, T scale,
              Pairs<T>& out) const {
    sums(panels, scale, out, [&](auto s, Index p, Packet* sum) MAD_ALWAYS_INLINE {
      const Packet k = at(key, s, p);
      sum[s] = L::mul_add(at(query, s, p), Bonus ? L::mul(k, L::load(weight.at(0, p))) : k, sum[s]);
      forwards(s, p, k, [&](auto t, const Packet& carried) MAD_ALWAYS_INLINE {
        sum[t] = L::mul_add(carried, at(query, t, p), sum[t]);
      });
    });
  }

  /// scale (x_t . y_s)
  void products(Panels<const T> x, Panels<const T> y, Index panels, T scale, Pairs<T>& out) const {
    sums(panels, scale, out, [&](auto s, Index p, Packet* sum) MAD_ALWAYS_INLINE {
      const Packet lanes = at(y, s, p);
      each([&](auto t) MAD_ALWAYS_INLINE {
        if constexpr (t >= s) sum[t] = L::mul_add(lanes, at(x, t, p), sum[t]);
      });
    });
  }

  /// out_t += sum over s <= t of pairs[t,s] x_s
  void add_earlier(const Pairs<T>& pairs, Panels<const T> x, Index panels, Panels<T> out) const {
    for (Index p = 0; p < panels; ++p) {
      Packet sum[chunk_tokens];
      each([&](auto t) MAD_ALWAYS_INLINE { sum[t] = at(out, t, p); });
      each([&](auto s) MAD_ALWAYS_INLINE {
        const Packet lanes = at(x, s, p);
        each([&](auto t) MAD_ALWAYS_INLINE {
          if constexpr (t >= s) sum[t] = L::mul_add(L::all(pairs[t][s]), lanes, sum[t]);
        });
      });
      each([&](auto t) MAD_ALWAYS_INLINE { L::store(out.at(begin_ + t, p), sum[t]); });
    }
  }
  /// out_s += sum over t >= s of pairs[t,s] x_t
  void add_later(const Pairs<T>& pairs, Panels<const T> x, Index panels, Panels<T> out) const {
    for (Index p = 0; p < panels; ++p) {
      Packet sum[chunk_tokens];
      each([&](auto s) MAD_ALWAYS_INLINE { sum[s] = at(out, s, p); });
      each([&](auto t) MAD_ALWAYS_INLINE {
        const Packet lanes = at(x, t, p);
        each([&](auto s) MAD_ALWAYS_INLINE {
          if constexpr (s <= t) sum[s] = L::mul_add(L::all(pairs[t][s]), lanes, sum[s]);
        });
      });
      each([&](auto s) MAD_ALWAYS_INLINE { L::store(out.at(begin_ + s, p), sum[s]); });
    }
  }

  /// d_query_t += sum over s < t of pairs[t,s] R[t,s] k_s
  void add_query_gradient(const Pairs<T>& pairs, Panels<const T> key, Index panels, Panels<T> d_query) const {
    for (Index p = 0; p < panels; ++p) {
      Packet sum[chunk_tokens];
      each([&](auto t) MAD_ALWAYS_INLINE { sum[t] = at(d_query, t, p); });
      each([&](auto s) MAD_ALWAYS_INLINE {
        forwards(s, p, at(key, s, p), [&](auto t, const Packet& carried) MAD_ALWAYS_INLINE {
          sum[t] = L::mul_add(L::all(pairs[t][s]), carried, sum[t]);
        });
      });
      each([&](auto t) MAD_ALWAYS_INLINE { L::store(d_query.at(begin_ + t, p), sum[t]); });
    }
  }
  /// d_key_s += sum over t > s of pairs[t,s] R[t,s] q_t
  void add_key_gradient(const Pairs<T>& pairs, Panels<const T> query, Index panels, Panels<T> d_key) const {
    for (Index p = 0; p < panels; ++p) {
      Packet sum[chunk_tokens];
      each([&](auto s) MAD_ALWAYS_INLINE { sum[s] = at(d_key, s, p); });
      each([&](auto t) MAD_ALWAYS_INLINE {
        Packet carried = at(query, t, p);
        unroll<t>([&](auto before) MAD_ALWAYS_INLINE {
          constexpr int s = t - 1 - before;
          if constexpr (!Bonus || s + 1 < t) carried = L::mul(carried, decay(s + 1, p));
          sum[s] = L::mul_add(L::all(pairs[t][s]), carried, sum[s]);
        });
      });
      each([&](auto s) MAD_ALWAYS_INLINE { L::store(d_key.at(begin_ + s, p), sum[s]); });
    }
  }

  /// `add_query_gradient`, and the gradient of the log decays, da_t = sum over pairs s < t <= r of tokens (with a
  /// bonus, s < t < r): from the inner pairs, from q_r * d_query_r where s comes before the chunk, from k_s * d_key_s
  /// where r comes behind it (d_query and d_key hold no others yet), and from `across` where both do. Nothing is
  /// subtracted, so that small gradients keep their digits.
  void add_query_and_decay_gradient(const Pairs<T>& pairs, Panels<const T> query, Panels<const T> key,
                                    Panels<const T> d_key, Panels<const T> across, Index panels, Panels<T> d_query,
                                    Panels<T> d_decay) const {
    for (Index p = 0; p < panels; ++p) {
      Packet d[chunk_tokens], da[chunk_tokens];
      Packet sum = L::load(across.at(begin_ / chunk_tokens, p));
      each_from_last([&](auto r) MAD_ALWAYS_INLINE {
        d[r] = at(d_query, r, p);
        if constexpr (Bonus) da[r] = sum;
        sum = L::mul_add(at(query, r, p), d[r], sum);
        if constexpr (!Bonus) da[r] = sum;
      });
      sum = L::zero();
      each([&](auto t) MAD_ALWAYS_INLINE {
        da[t] = L::add(da[t], sum);
        sum = L::mul_add(at(key, t, p), at(d_key, t, p), sum);
      });
      each([&](auto s) MAD_ALWAYS_INLINE {
        Packet pair[chunk_tokens];
        forwards(s, p, at(key, s, p), [&](auto r, const Packet& carried) MAD_ALWAYS_INLINE {
          const Packet weighted = L::mul(L::all(pairs[r][s]), carried);
          d[r] = L::add(d[r], weighted);
          pair[r] = L::mul(weighted, at(query, r, p));
        });
        Packet beyond = L::zero();
        each_from_last([&](auto r) MAD_ALWAYS_INLINE {
          if constexpr (r > s) {
            beyond = L::add(beyond, pair[r]);
            constexpr int t = Bonus ? r - 1 : r;
            if constexpr (t > s) da[t] = L::add(da[t], beyond);
          }
        });
      });
      each([&](auto t) MAD_ALWAYS_INLINE {
        L::store(d_query.at(begin_ + t, p), d[t]);
        L::store(d_decay.at(begin_ + t, p), da[t]);
      });
    }
  }

private:
  template <class U>
  MAD_ALWAYS_INLINE inline Packet at(Panels<U> x, Index t, Index p) const {
    return L::load(x.at(begin_ + t, p));
  }
  MAD_ALWAYS_INLINE inline Packet decay(Index t, Index p) const { return at(decay_, t, p); }

  /// Calls body(t) with the constants t of the tokens that the chunk has. Not a loop under MAD_UNROLL: where a body
  /// loops over panels, g++ leaves the loop around it as it is and compares t and s at run time.
  template <class Body>
  MAD_ALWAYS_INLINE inline void each(const Body& body) const {
    unroll<chunk_tokens>([&](auto t) MAD_ALWAYS_INLINE {
      if (t < count_) body(t);
    });
  }
  template <class Body>
  MAD_ALWAYS_INLINE inline void each_from_last(const Body& body) const {
    unroll<chunk_tokens>([&](auto i) MAD_ALWAYS_INLINE {
      constexpr int t = static_cast<int>(chunk_tokens) - 1 - i;
      if (t < count_) body(std::integral_constant<int, t>{});
    });
  }
  /// Calls body(t, R[t,s] x_s) for t > s.
  template <class S, class Body>
  MAD_ALWAYS_INLINE inline void forwards(S s, Index p, const Packet& x, const Body& body) const {
    Packet carried = x;
    each([&](auto t) MAD_ALWAYS_INLINE {
      if constexpr (t > s) {
        if constexpr (!Bonus || t > s + 1) carried = L::mul(carried, decay(Bonus ? t - 1 : t, p));
        body(t, carried);
      }
    });
  }
  /// out[t,s] = scale times the sum over panels and lanes of what `add(s, panel, sums over t)` adds.
  template <class Add>
  MAD_ALWAYS_INLINE inline void sums(Index panels, T scale, Pairs<T>& out, const Add& add) const {
    each([&](auto s) MAD_ALWAYS_INLINE {
      Packet sum[chunk_tokens];
      unroll<chunk_tokens>([&](auto t) MAD_ALWAYS_INLINE { sum[t] = L::zero(); });
      for (Index p = 0; p < panels; ++p) add(s, p, sum);
      each([&](auto t) MAD_ALWAYS_INLINE {
        if constexpr (t >= s) out[t][s] = scale * L::sum(sum[t]);
      });
    });
  }

  Index begin_, count_;
  Panels<const T> decay_;
};

/// Calls body(pairs) for each chunk of a run.
template <bool Bonus, class T, class Body>
void for_chunks(Panels<const T> decay, Index tokens, const Body& body) {
  for (Index begin = 0; begin < tokens; begin += chunk_tokens)
    body(ChunkPairs<T, Bonus>(begin, std::min(chunk_tokens, tokens - begin), decay));
}

}  // namespace mad::cpu::recurrence_detail
