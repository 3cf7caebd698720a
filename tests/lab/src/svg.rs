//! Line charts over a logarithmic axis of sizes, as SVG: several small ones on one sheet.
//!
//! Readable on light and on dark pages: the sheet has no background, and its ink follows the reader's color scheme.

use std::fmt::Write as _;

/// One chart: what it shows, and its lines.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Of the values; the axis below is the same for all charts.
    pub(crate) unit: &'static str,
    pub(crate) scale: Scale,
    pub(crate) lines: Vec<Line>,
}

/// Points joined by a line, with a name at its end.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Size and value.
    pub(crate) points: Vec<(f64, f64)>,
    /// Drawn broken and pale: what the other lines are held against.
    pub(crate) is_yardstick: bool,
}

/// How values are laid on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0.
    Linear,
    /// In powers.
    Log,
}

/// A stretch of values laid on a stretch of the sheet.
#[derive(Clone, Copy, Debug)]
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
/// Room around the plot of each chart: left, top, right, bottom.
const MARGINS: (f64, f64, f64, f64) = (58.0, 40.0, 24.0, 62.0);
const COLUMNS: usize = 2;
const TICKS: usize = 4;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 13px } .pale { fill: #777 }
.axis { stroke: #888; stroke-width: 1; fill: none } .grid { stroke: #8884; stroke-width: 1 }
.line { stroke: #0969da; stroke-width: 2; fill: none } .dot { fill: #0969da }
.yardstick { stroke: #777; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .pale { fill: #999 } .line { stroke: #58a6ff } .dot { fill: #58a6ff }
.yardstick { stroke: #999 } }";

/// All charts on one sheet. `size` names the axis below, `marks` are the sizes named on it.
pub(crate) fn sheet(charts: &[Chart], size: &str, marks: &[f64]) -> String {
    let rows = charts.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS.min(charts.len()) as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\">\n<style>\n{STYLE}\n</style>\n"
    );
    for (place, chart) in charts.iter().enumerate() {
        let (left, top) = ((place % COLUMNS) as f64 * WIDTH, (place / COLUMNS) as f64 * HEIGHT);
        // Writing to a string does not fail.
        let _ = writeln!(svg, "<g transform=\"translate({left:.0} {top:.0})\">\n{}</g>", drawn(chart, size, marks));
    }
    svg + "</svg>\n"
}

fn drawn(chart: &Chart, size: &str, marks: &[f64]) -> String {
    let (left, top, right, bottom) = MARGINS;
    let across = Axis::over(Scale::Log, marks.iter().copied(), left, WIDTH - right);
    let values = chart.lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let up = Axis::over(chart.scale, values, HEIGHT - bottom, top);
    let mut svg = String::new();
    let mut put = |text: String| svg.extend([text.as_str(), "\n"]);
    put(format!("<text class=\"title\" x=\"{left:.0}\" y=\"16\">{}</text>", escaped(&chart.title)));
    put(format!("<text class=\"pale\" x=\"{left:.0}\" y=\"31\">{}</text>", escaped(chart.unit)));
    for value in up.ticks() {
        let y = up.at(value);
        put(format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{:.1}\"/>", WIDTH - right));
        put(format!(
            "<text class=\"pale\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            short(value)
        ));
    }
    put(format!("<path class=\"axis\" d=\"M{left:.1} {top:.1}V{:.1}H{:.1}\"/>", HEIGHT - bottom, WIDTH - right));
    for mark in marks {
        let x = across.at(*mark);
        put(format!(
            "<text class=\"pale\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - bottom + 16.0,
            short(*mark)
        ));
    }
    let middle = (left + WIDTH - right) / 2.0;
    put(format!("<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", HEIGHT - bottom + 32.0, escaped(size)));
    let mut key = left;
    for line in &chart.lines {
        let class = if line.is_yardstick { "yardstick" } else { "line" };
        let points: Vec<String> =
            line.points.iter().map(|(size, value)| format!("{:.1} {:.1}", across.at(*size), up.at(*value))).collect();
        put(format!("<path class=\"{class}\" d=\"M{}\"/>", points.join("L")));
        if !line.is_yardstick {
            for (size, value) in &line.points {
                let (x, y) = (across.at(*size), up.at(*value));
                put(format!(
                    "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
                    short(*value)
                ));
            }
        }
        let y = HEIGHT - 12.0;
        put(format!("<path class=\"{class}\" d=\"M{key:.1} {:.1}h22\"/>", y - 4.0));
        put(format!("<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>", key + 28.0, escaped(line.name)));
        key += 28.0 + 7.0 * line.name.len() as f64 + 12.0;
    }
    svg
}

impl Axis {
    /// An axis that holds all values, from and to round numbers.
    fn over(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        match scale {
            Scale::Linear => Self { scale, least: 0.0, most: if most > 0.0 { round_up(most) } else { 1.0 }, from, to },
            Scale::Log => {
                let least = values.iter().copied().filter(|value| *value > 0.0).fold(f64::MAX, f64::min);
                let (least, most) = if least <= most { (least, most) } else { (1.0, 1.0) };
                Self { scale, least, most: most.max(least * 2.0), from, to }
            }
        }
    }

    fn at(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.least) / (self.most - self.least),
            Scale::Log => (value.max(self.least) / self.least).ln() / (self.most / self.least).ln(),
        };
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=TICKS).map(|tick| self.most * tick as f64 / TICKS as f64).collect(),
            Scale::Log => {
                let powers = (self.least.log10().floor() as i32)..=(self.most.log10().ceil() as i32);
                let inside = |steps: &[f64]| -> Vec<f64> {
                    let ticks = powers.clone().flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
                    ticks.filter(|tick| (self.least..=self.most).contains(tick)).collect()
                };
                let sparse = inside(&[1.0]);
                if sparse.len() >= TICKS - 1 { sparse } else { inside(&[1.0, 2.0, 5.0]) }
            }
        }
    }
}

/// The next 1, 1.2, 1.6, 2, 3, 4, 6 or 8 times a power of ten: a quarter of each reads well.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|step| *step >= value * 0.999_999).unwrap_or(value)
}

/// A number in few letters.
fn short(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    // Thousands apart, as people read them.
    match text.len() {
        5.. if !text.contains('.') => format!("{}\u{202f}{}", &text[..text.len() - 3], &text[text.len() - 3..]),
        _ => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_lays_its_ends_on_its_ends() {
        let linear = Axis::over(Scale::Linear, [0.7, 1.15].into_iter(), 200.0, 40.0);
        assert_eq!((linear.at(0.0), linear.at(1.2), linear.at(0.6)), (200.0, 40.0, 120.0));
        let log = Axis::over(Scale::Log, [10.0, 1_000.0].into_iter(), 0.0, 100.0);
        assert_eq!((log.at(10.0), log.at(1_000.0)), (0.0, 100.0));
        assert!((log.at(100.0) - 50.0).abs() < 1e-9);
        assert_eq!(log.ticks(), [10.0, 100.0, 1_000.0]);
        assert_eq!(Axis::over(Scale::Log, [30.0, 250.0].into_iter(), 0.0, 100.0).ticks(), [50.0, 100.0, 200.0]);
        let nothing = Axis::over(Scale::Log, [].into_iter(), 0.0, 100.0);
        assert!(nothing.at(1.0).is_finite());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [short(0.0), short(1.2), short(1.0), short(256.0), short(12_345.0)],
            ["0", "1.2", "1", "256", "12\u{202f}345"]
        );
        assert_eq!(
            [round_up(1.15), round_up(0.021), round_up(100.0), round_up(9.0)].map(|value| (value * 1e6).round() / 1e6),
            [1.2, 0.03, 100.0, 10.0]
        );
    }

    #[test]
    fn a_sheet_draws_each_point_inside_itself() {
        let line = |is_yardstick| Line { name: "a < b", points: vec![(8.0, 1.0), (64.0, 3.0)], is_yardstick };
        let chart = || Chart { title: "t".into(), unit: "u", scale: Scale::Linear, lines: vec![line(false), line(true)] };
        let svg = sheet(&[chart(), chart(), chart()], "peers", &[8.0, 64.0]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("<g ").count()), (6, svg.matches("</g>").count()));
        assert!(svg.contains("viewBox=\"0 0 800 540\"") && svg.contains("a &lt; b"));
        assert!(svg.contains("class=\"line\" d=\"M58.0 152.0L376.0 40.0\""), "{svg}");
    }
}
