//! Curves as SVG whose colours, fonts and strokes are a style sheet's.
//!
//! Pure. Neighbours: `html` says what is drawn and has the style sheet (`page.css`); plotters draws.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// How large a drawing is. A page has both and shows the one that fits its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For desks.
    Wide,
    /// For phones.
    Narrow,
}

impl Size {
    /// The style sheet's name.
    pub fn class(self) -> &'static str {
        match self {
            Size::Wide => "wide",
            Size::Narrow => "narrow",
        }
    }

    /// In units finer than pixels: plotters places everything on whole ones.
    fn pixels(self) -> (u32, u32) {
        match self {
            Size::Wide => (1_600, 680),
            Size::Narrow => (720, 640),
        }
    }
}

/// One axis: what is at which place, and what stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    title: String,
    range: (f64, f64),
    logarithmic: bool,
    /// Places with their labels.
    ticks: Vec<(f64, String)>,
    /// Places of lines without a label.
    light: Vec<f64>,
}

/// From this ratio of the highest to the lowest on, times are drawn on a logarithmic scale: below it a linear one from
/// zero shows differences as large as they are.
const LOGARITHMIC_FROM: f64 = 10.0;

impl Axis {
    /// Percentiles up to that of one in so many values; each step is a tenth of the distance to 100 %.
    pub fn percentiles(samples: f64) -> Axis {
        let end = samples.log10().max(1.0);
        let mut ticks =
            vec![(0.0, "0".to_owned()), (place_of(50.0), "50".to_owned()), (1.0, "90".to_owned())];
        let nines = (2..=end as usize).map(|nines| {
            let behind = "9".repeat(nines - 2);
            (nines as f64, if nines == 2 { "99".to_owned() } else { format!("99.{behind}") })
        });
        ticks.extend(nines);
        let title = "percentile (%)".to_owned();
        Axis { title, range: (0.0, end), logarithmic: false, ticks, light: vec![] }
    }

    /// Times in microseconds.
    pub fn latency(what: &str, low: f64, high: f64) -> Axis {
        let (low, high) = (low.max(1.0), high.max(1.0));
        if high / low < LOGARITHMIC_FROM {
            return Axis::linear(what.to_owned(), 1.05 * high, tick_time);
        }
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let few = decades.clone().count() <= 4;
        // down to a tick
        let bottom = [5.0, 2.0, 1.0].map(|step| step * 10_f64.powf(low.log10().floor()));
        let bottom = bottom.into_iter().find(|tick| *tick <= low * 1.0001).unwrap_or(low);
        let within = |value: &f64| (bottom..=high * 1.0001).contains(value);
        let steps = |steps: &'static [f64]| {
            let values = decades
                .clone()
                .flat_map(move |decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            values.filter(within).collect::<Vec<f64>>()
        };
        let labelled = steps(if few { &[1.0, 2.0, 5.0] } else { &[1.0] });
        let label = |value: &f64| (*value, tick_time(*value));
        Axis {
            title: format!("{what}, logarithmic"),
            range: (bottom, high * 1.15),
            logarithmic: true,
            ticks: labelled.iter().map(label).collect(),
            light: steps(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        }
    }

    /// How often a second.
    pub fn rate(what: &str, high: f64) -> Axis {
        Axis::linear(what.to_owned(), 1.1 * high, |value| match value {
            value if value >= 1e6 => format!("{}M", value / 1e6),
            value if value >= 1e3 => format!("{}k", value / 1e3),
            value => value.to_string(),
        })
    }

    /// Seconds since the measured part began.
    pub fn seconds(end: f64) -> Axis {
        // a run of 3.999 s has a tick at its end
        let whole = end.round();
        let end = if whole > end && whole - end < 0.01 * end { whole } else { end };
        let minutes = end > 300.0;
        let unit = if minutes { 60.0 } else { 1.0 };
        let mut axis = Axis::linear(String::new(), end / unit, |value| value.to_string());
        axis.ticks.iter_mut().for_each(|(place, _)| *place *= unit);
        axis.title = format!("time since measuring began ({})", if minutes { "min" } else { "s" });
        axis.range.1 = end;
        axis
    }

    /// From zero.
    fn linear(title: String, high: f64, label: impl Fn(f64) -> String) -> Axis {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_step(high / 5.0);
        let ticks = (0..=(high / step) as u32).map(|count| {
            // 3 * 0.1 is not 0.3
            let value = (f64::from(count) * step * 1e6).round() / 1e6;
            (value, label(value))
        });
        Axis { title, range: (0.0, high), logarithmic: false, ticks: ticks.collect(), light: vec![] }
    }

    /// Without the labels that would run into the one before them; `length` and `letter` (its width) are in the same unit.
    fn uncrowded(mut self, length: f64, letter: f64) -> Axis {
        let (low, high) = (self.place(self.range.0), self.place(self.range.1));
        let (mut end, logarithmic) = (f64::MIN, self.logarithmic);
        for (value, label) in &mut self.ticks {
            let place = if logarithmic { value.log10() } else { *value };
            let middle = length * (place - low) / (high - low);
            let half = letter * label.chars().count() as f64 / 2.0;
            if middle - half < end + letter {
                label.clear();
            } else {
                end = middle + half;
            }
        }
        self
    }

    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(1.0).log10() } else { value }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        let (low, high) = (self.place(self.range.0), self.place(self.range.1));
        let share = (self.place(*value) - low) / (high - low);
        begin + (f64::from(end - begin) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.light.clone()
        } else {
            self.ticks.iter().map(|(value, _)| *value).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map_or_else(String::new, |(_, label)| spaced(label))
    }
}

/// A round time in microseconds, without the zeros that a measured one has behind its point.
fn tick_time(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 1e3 => format!("{value}us"),
        value if value < 1e6 => format!("{}ms", value / 1e3),
        value => format!("{}s", value / 1e6),
    }
}

/// Where a percentile stands on its axis.
pub fn place_of(percentile: f64) -> f64 {
    (100.0 / (100.0 - percentile)).log10()
}

/// The next of 1, 2, 5, 10, ... that is not below.
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| *step >= least * 0.9999)
        .unwrap_or(least)
}

/// `1.02ms` as it is set in print.
pub fn spaced(text: &str) -> String {
    let number = text.trim_end_matches(char::is_alphabetic);
    let unit = &text[number.len()..];
    match unit {
        "us" => format!("{number}\u{202f}µs"),
        "ns" | "ms" | "s" | "B" | "kB" | "MB" | "GB" | "TB" if number.parse::<f64>().is_ok() => {
            format!("{number}\u{202f}{unit}")
        }
        _ => text.to_owned(),
    }
}

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Which run: its colour.
    pub run: usize,
    /// Drawn thinner, as what stands beside the matter.
    pub thin: bool,
    /// Pieces between which nothing is known.
    pub pieces: Vec<Vec<(f64, f64)>>,
    /// Points that are marked.
    pub marks: Vec<(f64, f64)>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The last one is on top.
    pub curves: Vec<Curve>,
}

/// So many colours the style sheet has; then they come again with other strokes.
pub const STYLES: usize = 16;

// What a drawing consists of is drawn in colours that say what it is, and these become the style sheet's classes.
const GRID: RGBColor = RGBColor(254, 0, 0);
const LIGHT: RGBColor = RGBColor(254, 0, 1);
const AXIS: RGBColor = RGBColor(254, 0, 2);
const TEXT: RGBColor = RGBColor(254, 0, 3);
const MARK: RGBColor = RGBColor(254, 0, 4);

fn curve_colour(curve: &Curve) -> RGBColor {
    RGBColor(253, u8::from(curve.thin), (curve.run % STYLES) as u8)
}

/// Draws a chart; `title` is what a reader hears who sees nothing.
pub fn svg(chart: &Chart, size: Size, title: &str) -> String {
    let mut text = String::new();
    let backend = SVGBackend::with_string(&mut text, size.pixels());
    draw(chart, size, backend).expect("text takes every drawing");
    named_by_class(&text, size, title)
}

fn draw(
    chart: &Chart,
    size: Size,
    backend: SVGBackend<'_>,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>> {
    let root = backend.into_drawing_area();
    let (left, right, font_size) = if size == Size::Wide { (150, 40, 27) } else { (140, 40, 30) };
    let width = f64::from(size.pixels().0 - left - right);
    let (x, y) = (chart.x.clone().uncrowded(width, 0.45 * f64::from(font_size)), chart.y.clone());
    let mut context = ChartBuilder::on(&root)
        .margin_top(20)
        .margin_right(right)
        .x_label_area_size(95)
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)?;
    let label = ("sans-serif", font_size).into_font().color(&TEXT);
    context
        .configure_mesh()
        .axis_style(AXIS.stroke_width(2))
        .bold_line_style(GRID.stroke_width(2))
        .light_line_style(LIGHT.stroke_width(2))
        .label_style(label.clone())
        .axis_desc_style(label.pos(Pos::new(HPos::Center, VPos::Center)))
        .x_desc(&chart.x.title)
        .y_desc(&chart.y.title)
        .draw()?;
    for curve in &chart.curves {
        let colour = curve_colour(curve);
        for piece in &curve.pieces {
            match piece.as_slice() {
                // a line of one point is not seen
                [_] => {
                    context.draw_series(piece.iter().map(|point| Circle::new(*point, 8, colour.filled())))?
                }
                _ => context.draw_series(LineSeries::new(piece.iter().copied(), colour.stroke_width(4)))?,
            };
        }
        let marks = curve.marks.iter();
        context.draw_series(marks.map(|point| Circle::new(*point, 8, MARK.filled())))?;
    }
    root.present()
}

/// Puts the style sheet's classes in place of the colours.
fn named_by_class(svg: &str, size: Size, title: &str) -> String {
    let (class, title) = (size.class(), escape(title));
    let head = format!("<svg class=\"{class}\" role=\"img\" aria-label=\"{title}\" ");
    let mut text = svg.replacen("<svg ", &head, 1);
    let curves = (0..STYLES).flat_map(|run| {
        let colour = |thin| RGBColor(253, thin, run as u8);
        [(colour(0), format!("run-{run}")), (colour(1), format!("run-{run} thin"))]
    });
    let parts = [(GRID, "grid"), (LIGHT, "light"), (AXIS, "axis"), (TEXT, "label"), (MARK, "mark")];
    for (RGBColor(r, g, b), class) in
        parts.map(|(colour, class)| (colour, class.to_owned())).into_iter().chain(curves)
    {
        for attribute in ["stroke", "fill"] {
            let coloured = format!(" {attribute}=\"#{r:02X}{g:02X}{b:02X}\"");
            text = text.replace(&coloured, &format!(" class=\"{attribute} {class}\""));
        }
    }
    text
}

/// Text that comes from outside, for HTML and its attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn percentiles_go_as_far_as_the_values_do() {
        assert_eq!(labels(&Axis::percentiles(12_000.0)), ["0", "50", "90", "99", "99.9", "99.99"]);
        assert_eq!(labels(&Axis::percentiles(1.0)), ["0", "50", "90"]);
        let place = |percentile| (place_of(percentile) * 1e6).round() / 1e6;
        assert_eq!([place(0.0), place(90.0), place(99.9)], [0.0, 1.0, 3.0]);
    }

    #[test]
    fn times_are_linear_where_they_are_close_and_logarithmic_where_they_are_not() {
        let close = Axis::latency("latency", 5_000.0, 5_600.0);
        assert_eq!(labels(&close), ["0", "2ms", "4ms"]);
        let apart = Axis::latency("latency", 90.0, 1_100.0);
        assert_eq!(labels(&apart), ["50us", "100us", "200us", "500us", "1ms"]);
        assert_eq!(apart.title, "latency, logarithmic");
        let far = Axis::latency("latency", 50.0, 2_000_000.0);
        assert_eq!(labels(&far), ["100us", "1ms", "10ms", "100ms", "1s"]);
    }

    #[test]
    fn rates_and_seconds_have_round_ticks() {
        assert_eq!(labels(&Axis::rate("answers/s", 52_000.0)), ["0", "20k", "40k"]);
        assert_eq!(labels(&Axis::rate("answers/s", 0.0)).first(), Some(&"0"));
        assert_eq!(labels(&Axis::seconds(10.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&Axis::seconds(3.999)).last(), Some(&"4"));
        let long = Axis::seconds(1_200.0);
        assert_eq!((labels(&long), long.ticks[1].0), (vec!["0", "5", "10", "15", "20"], 300.0));
        assert_eq!(labels(&Axis::seconds(0.7)), ["0", "0.2", "0.4", "0.6"]);
    }

    #[test]
    fn labels_do_not_run_into_each_other() {
        let narrow = Axis::percentiles(2e7).uncrowded(580.0, 15.0);
        assert_eq!(labels(&narrow), ["0", "", "90", "99", "99.9", "", "99.999", "", "99.99999"]);
        let wide = Axis::percentiles(2e7).uncrowded(1_450.0, 13.0);
        assert_eq!(wide, Axis::percentiles(2e7));
    }

    #[test]
    fn a_drawing_has_classes_and_no_colours() {
        let curve = Curve {
            run: 3,
            thin: false,
            pieces: vec![vec![(0.0, 5.0), (2.0, 9.0)]],
            marks: vec![(1.0, 5.0)],
        };
        let alone = Curve { run: 1, thin: true, pieces: vec![vec![(1.0, 7.0)]], marks: vec![] };
        let chart =
            Chart { x: Axis::seconds(3.0), y: Axis::rate("answers/s", 10.0), curves: vec![curve, alone] };
        let svg = svg(&chart, Size::Narrow, "a \"b\"");
        assert!(
            svg.starts_with("<svg class=\"narrow\" role=\"img\" aria-label=\"a &quot;b&quot;\" "),
            "{svg}"
        );
        for part in [
            "class=\"stroke run-3\"",
            "class=\"fill run-1 thin\"",
            "class=\"fill mark\"",
            "class=\"fill label\"",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("#F"), "{svg}");
    }

    #[test]
    fn figures_are_set_with_a_small_space() {
        let table = [
            ("1.02ms", "1.02\u{202f}ms"),
            ("7us", "7\u{202f}µs"),
            ("50k", "50k"),
            ("500,120", "500,120"),
            ("-", "-"),
        ];
        for (text, expected) in table {
            assert_eq!(spaced(text), expected);
        }
    }

    proptest! {
        #[test]
        fn every_axis_has_ticks_within_its_range(low in 0.0_f64..1e9, factor in 1.0_f64..1e6) {
            for axis in [Axis::latency("", low, low * factor), Axis::rate("", low), Axis::seconds(low / 1e4), Axis::percentiles(low)] {
                prop_assert!(axis.ticks.len() <= 24, "{:?}", axis);
                prop_assert!(!axis.ticks.is_empty(), "{:?}", axis);
                for (place, _) in &axis.ticks {
                    prop_assert!((axis.range.0..=axis.range.1 * 1.0001).contains(place), "{:?}", axis);
                }
            }
        }
    }
}
