// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How the report looks: its style sheet, for light and dark screens, phones and paper.
#pragma once

#include <string_view>

namespace mad::protocol::detail {

/// Texts, bars and curves keep a contrast of at least 4.5 to 1 against their background in both modes. Models differ
/// by color, dash and marker together.
inline constexpr std::string_view report_style = R"css(
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2329; --quiet: #5b6570; --line: #dfe2e5; --track: #eceef0;
  --warn-ink: #7a3e00; --warn: #fff4e0;
  --model-0: #1f5fae; --model-1: #b8470f; --model-2: #12776b; --model-3: #7a3fb0; --model-4: #9a2257; --model-5: #5d6a12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --ink: #e8eaec; --quiet: #a3adb7; --line: #363c43; --track: #2b3036;
    --warn-ink: #ffd9a0; --warn: #3a2c14;
    --model-0: #78b3f5; --model-1: #f59a62; --model-2: #58cdbb; --model-3: #c69cf4; --model-4: #f58fb9; --model-5: #c3d067;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0; letter-spacing: -0.01em; }
p { margin: .35rem 0; max-width: 44rem; }
.quiet { color: var(--quiet); font-size: .9rem; }
section { margin-top: 2.75rem; }
figure { margin: 1rem 0 0; }
figcaption { margin-top: .75rem; }
svg { display: block; width: 100%; overflow: visible; font-family: inherit; }
svg text { fill: var(--ink); font-size: 13px; font-variant-numeric: tabular-nums; }
svg .quiet { fill: var(--quiet); font-size: 12px; }
svg .name { font-weight: 600; font-size: 14px; }
svg .value { font-weight: 600; }
svg .track { fill: var(--track); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .chance { stroke: var(--quiet); stroke-width: 1.5; stroke-dasharray: 2 3; }
svg .halo { stroke: var(--page); stroke-width: 5; }
svg .notch { stroke: var(--ink); stroke-width: 2; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.totals { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.75rem 0 0; padding: 0; list-style: none; }
.totals li {
  flex: 1 1 15rem; min-width: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .9rem 1.1rem 1rem;
}
.totals .number { font-size: 2.4rem; line-height: 1.15; font-weight: 650; font-variant-numeric: tabular-nums; }
.totals .model { font-weight: 600; overflow-wrap: anywhere; }
.key { display: inline-block; width: 38px; height: 12px; margin-right: .5rem; vertical-align: baseline; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .75rem 0 0; padding: 0; list-style: none; font-size: .9rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18.5rem), 1fr)); gap: 1.75rem 1.5rem; margin-top: 1rem; }
.panels figure { margin: 0; }
.panels h3 { font-size: .95rem; margin: 0 0 .35rem; }
.scroll { overflow-x: auto; margin-top: 1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.scroll:focus-visible { outline: 2px solid var(--model-0); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .5rem .9rem; text-align: left; vertical-align: top; }
thead th { color: var(--quiet); font-weight: 600; font-size: .82rem; white-space: nowrap; }
tbody tr, .pairs div { border-top: 1px solid var(--line); }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th { font-weight: 600; }
tbody th.group { padding-top: 1rem; overflow-wrap: anywhere; }
.pairs { margin: 1rem 0 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); column-gap: 2rem; font-size: .92rem; }
.pairs div { display: flex; justify-content: space-between; gap: 1rem; padding: .4rem 0; }
.pairs dt { color: var(--quiet); flex: none; }
.pairs dd { margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0; }
.warning { background: var(--warn); color: var(--warn-ink); border-radius: 10px; padding: .9rem 1.1rem; margin-top: 1.75rem; }
.warning ul { margin: .35rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
@media (max-width: 36rem) {
  main { padding: 1.5rem 1rem 3rem; }
  th, td { padding: .45rem .6rem; }
}
@media print {
  body { background: none; }
  main { max-width: none; padding: 0; }
  figure, tr, .totals li { break-inside: avoid; }
}
)css";

}  // namespace mad::protocol::detail
