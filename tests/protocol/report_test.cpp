// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/protocol/report.hpp>

#include "catch.hpp"
#include "core/temporary_folder.hpp"

#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using namespace mad::protocol;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

ReportData two_models() {
  ReportData data;
  data.title = "MAD <quick> & small";
  data.summary = "A sentence.";
  ReportModel hybrid;
  hybrid.name = "hyena-attention";
  hybrid.detail = "1,000 parameters";
  hybrid.score = 0.625;
  ReportTask recall;
  recall.name = "in-context-recall";
  recall.score = 0.5;
  recall.test_accuracy = {0, 0.25, 0.5};
  recall.train_accuracy = 0.125;
  recall.test_perplexity = 12'345'678;
  recall.test_loss = 1.5;
  recall.seconds = 61;
  ReportTask copying;
  copying.name = "selective-copying";
  copying.score = 0.75;
  copying.test_accuracy = {0.75};
  hybrid.tasks = {recall, copying};
  ReportModel mlp;
  mlp.name = "mlp";
  ReportTask failed;
  failed.name = "in-context-recall";
  failed.note = "loss not finite in epoch 2";
  failed.test_accuracy = {0.25, nan, 0.5};
  mlp.tasks = {failed};
  data.models = {hybrid, mlp};
  data.chance = {{"in-context-recall", 0.125}};
  data.settings = {{"preset", "quick"}, {"compiler", "g++ <12>"}};
  data.warnings = {"in-context-recall: 'failed'"};
  return data;
}

/// The tag that is opened and never closed, or closed and never opened; empty if all tags match.
std::string unmatched_tag(std::string_view html) {
  const std::set<std::string, std::less<>> empty{"meta", "!DOCTYPE"};
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != std::string_view::npos; at = html.find('<', at + 1)) {
    const std::size_t end = html.find('>', at);
    if (end == std::string_view::npos) return "unfinished";
    const std::string_view inside = html.substr(at + 1, end - at - 1);
    const std::string tag(inside.substr(0, inside.find_first_of(" \n")));
    if (inside.ends_with('/') || empty.contains(tag)) continue;
    if (!tag.starts_with('/')) {
      open.push_back(tag);
    } else if (open.empty() || open.back() != tag.substr(1)) {
      return tag;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

}  // namespace

TEST_CASE("the page is well-formed, self-contained, and every text in it is escaped") {
  const std::string html = report_html(two_models());
  CHECK(unmatched_tag(html).empty());
  CHECK_FALSE(unmatched_tag("<p><b></p>").empty());  // the check can fail
  CHECK_THAT(html, ContainsSubstring("<h1>MAD &lt;quick&gt; &amp; small</h1>"));
  CHECK_THAT(html, ContainsSubstring("g++ &lt;12&gt;"));
  CHECK_THAT(html, ContainsSubstring("in-context-recall: &#39;failed&#39;"));
  for (const char* reference : {"http", "src=", "href=", "url(", "@import", "<script"}) {
    CHECK_THAT(html, !ContainsSubstring(reference));
  }
}

TEST_CASE("bars are as long as the scores, and what is missing is said") {
  const std::string html = report_html(two_models());
  CHECK_THAT(html, ContainsSubstring("width=\"50%\""));
  CHECK_THAT(html, ContainsSubstring("width=\"75%\""));
  CHECK_THAT(html, ContainsSubstring("x1=\"12.5%\""));  // what guessing gives
  CHECK_THAT(html, ContainsSubstring("no result \u2020</text>"));
  CHECK_THAT(html, ContainsSubstring("<div class=\"quiet\">loss not finite in epoch 2</div>"));
  CHECK_THAT(html, ContainsSubstring("These results are not complete."));
  CHECK_THAT(html, ContainsSubstring("mlp: no result (loss not finite in epoch 2). "));
  CHECK_THAT(html, ContainsSubstring("hyena-attention: from 0.0000 after the first epoch to 0.5000 after epoch 3."));
}

TEST_CASE("a curve goes through the accuracies and stops where there is none") {
  const std::string html = report_html(two_models());
  // The panel reaches from (34, 170) for accuracy 0 in epoch 1 to (310, 10) for accuracy 1 in the last epoch, 3.
  CHECK_THAT(html, ContainsSubstring("d=\"M34 170L172 130L310 90\""));
  CHECK_THAT(html, ContainsSubstring("d=\"M34 130M310 90\""));
  CHECK_THAT(html, ContainsSubstring("cx=\"172\" cy=\"50\""));  // one epoch: a point in the middle
}

TEST_CASE("the table has the numbers") {
  const std::string html = report_html(two_models());
  CHECK_THAT(html, ContainsSubstring(
                       "in-context-recall</th><td class=\"number\">0.5000</td><td class=\"number\">0.1250</td><td "
                       "class=\"number\">1.23e+07</td><td class=\"number\">1.5000</td><td class=\"number\">3</td>"
                       "<td class=\"number\">1 min 01 s</td>"));
  CHECK_THAT(html, ContainsSubstring("<td class=\"number\">&ndash;</td>"));
}

TEST_CASE("one model needs no legend, and a page without anything is a page") {
  ReportData data = two_models();
  data.models.pop_back();
  const std::string html = report_html(data);
  CHECK(unmatched_tag(html).empty());
  CHECK_THAT(html, !ContainsSubstring("<ul class=\"legend\">"));
  CHECK_THAT(report_html(two_models()), ContainsSubstring("<ul class=\"legend\">"));
  CHECK(unmatched_tag(report_html({})).empty());
}

TEST_CASE("epochs below a curve are round numbers between the first and the last") {
  using Ticks = std::vector<Index>;
  CHECK(detail::epoch_ticks(1) == Ticks{1});
  CHECK(detail::epoch_ticks(2) == Ticks{1, 2});
  CHECK(detail::epoch_ticks(20) == Ticks{1, 5, 10, 15, 20});
  CHECK(detail::epoch_ticks(200) == Ticks{1, 50, 100, 150, 200});
  CHECK(detail::epoch_ticks(101) == Ticks{1, 50, 101});
  for (Index last = 1; last < 3000; ++last) {
    const auto ticks = detail::epoch_ticks(last);
    CHECK(ticks.size() <= 6);
    CHECK(ticks.back() == last);
  }
}

TEST_CASE("long names are cut between characters") {
  CHECK(detail::shortened("short") == "short");
  CHECK(detail::shortened(std::string(34, 'a')) == std::string(34, 'a'));
  CHECK(detail::shortened(std::string(35, 'a')) == std::string(33, 'a') + "\u2026");
  CHECK(detail::shortened(std::string(32, 'a') + "\u00e9\u00e9") == std::string(32, 'a') + "\u2026");
}

TEST_CASE("the page is written as a file") {
  const mad::testing::TemporaryFolder folder;
  write_report(folder / "report.html", two_models());
  CHECK(mad::read_file(folder / "report.html") == report_html(two_models()));
}
