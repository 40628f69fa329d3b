//! SVG charts.

use std::error::Error;
use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::sample::Second;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// What an axis shows.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'n> {
    /// What it measures, and in what.
    pub name: &'n str,
    /// By orders of magnitude; what is not above zero is then left out.
    pub logarithmic: bool,
}

const SIZE: (u32, u32) = (960, 540);
/// A blue, an orange, a green, a red, a purple, a grey: told apart by everybody.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(90, 90, 90),
];

impl Axis<'_> {
    fn place(self, value: f64) -> Option<f64> {
        if !self.logarithmic {
            return Some(value);
        }
        (value > 0.0).then(|| value.log10())
    }

    /// The text at a place.
    fn label(self, place: f64) -> String {
        let value = if self.logarithmic { 10_f64.powf(place) } else { place };
        let (scaled, unit) = match value.abs() {
            v if v >= 1e9 => (value / 1e9, " G"),
            v if v >= 1e6 => (value / 1e6, " M"),
            v if v >= 1e3 => (value / 1e3, " k"),
            _ => (value, ""),
        };
        let digits = if scaled.abs() >= 100.0 || (scaled - scaled.round()).abs() < 0.005 {
            0
        } else if scaled.abs() >= 1.0 {
            1
        } else {
            2
        };
        format!("{scaled:.digits$}{unit}")
    }

    /// How many labels it has at most: one for each order of magnitude if it is logarithmic.
    fn labels(self, range: &std::ops::Range<f64>) -> usize {
        if self.logarithmic { (range.end - range.start) as usize + 1 } else { 10 }
    }

    /// From where to where it goes, with a little room; a linear one begins at zero.
    fn range(self, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return 0.0..1.0;
        }
        if self.logarithmic {
            low.floor()..high.ceil().max(low.floor() + 1.0)
        } else {
            low.min(0.0)..high * 1.05 + 1e-9
        }
    }
}

/// Draws lines with points.
///
/// # Errors
/// When the file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    series: &[Series],
) -> Result<(), Box<dyn Error>> {
    let placed: Vec<(&str, Vec<(f64, f64)>)> = series
        .iter()
        .map(|one| {
            let points = one.points.iter();
            let points = points.filter_map(|(at, value)| x.place(*at).zip(y.place(*value)));
            (one.name.as_str(), points.collect())
        })
        .collect();
    let all = || placed.iter().flat_map(|(_, points)| points.iter());
    let (wide, mut high) = (x.range(all().map(|p| p.0)), y.range(all().map(|p| p.1)));
    // Above the lines there is room for the legend.
    let lines = placed.len() as f64 + 1.0;
    high.end += (high.end - high.start) * (lines * 0.045 / (1.0 - lines * 0.045));
    if y.logarithmic {
        high.end = high.end.ceil();
    }
    let (labels_x, labels_y) = (x.labels(&wide), y.labels(&high));
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(84)
        .build_cartesian_2d(wide, high)?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(240, 240, 240))
        .x_desc(x.name)
        .y_desc(y.name)
        .x_labels(labels_x)
        .y_labels(labels_y)
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .draw()?;
    for ((name, points), colour) in placed.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(*name)
            .legend(move |(at, line)| PathElement::new([(at, line), (at + 18, line)], style));
        if points.len() <= 64 {
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Latency by percentile: along the way to the slowest, every step is a tenth of the rest.
///
/// # Errors
/// When the file cannot be written.
pub fn percentiles(
    path: &Path,
    title: &str,
    named: &[(&str, &Histogram<u64>)],
) -> Result<(), Box<dyn Error>> {
    let series: Vec<Series> = named
        .iter()
        .map(|(name, histogram)| {
            let steps = histogram.iter_quantiles(5).filter(|step| step.quantile() < 1.0);
            let points = steps.map(|step| {
                (1.0 / (1.0 - step.quantile()), step.value_iterated_to() as f64 / 1000.0)
            });
            Series { name: (*name).to_owned(), points: points.collect() }
        })
        .collect();
    let x = Axis { name: "one request in so many is slower", logarithmic: true };
    lines(path, title, x, Axis { name: "latency in µs", logarithmic: true }, &series)
}

/// Latency over time, and in a second chart (`-open` behind the name) how many connections were
/// open.
///
/// # Errors
/// When a file cannot be written.
pub fn over_time(path: &Path, title: &str, seconds: &[Second]) -> Result<(), Box<dyn Error>> {
    // The rest of a step's last second is no second.
    let whole = || seconds.iter().filter(|second| second.seconds > 0.5);
    let of = |name: &str, value: fn(&crate::sample::Latency) -> f64| Series {
        name: name.to_owned(),
        points: whole()
            .filter_map(|second| second.latency.as_ref().map(|latency| (second.at, value(latency))))
            .collect(),
    };
    let series = [
        of("p50", |l| l.p50_us),
        of("p99", |l| l.p99_us),
        of("p99.9", |l| l.p99_9_us),
        of("longest", |l| l.max_us),
    ];
    let time = Axis { name: "seconds since the run began", logarithmic: false };
    lines(path, title, time, Axis { name: "latency in µs", logarithmic: true }, &series)?;
    let points = |value: fn(&Second) -> f64| whole().map(|s| (s.at, value(s))).collect();
    let series = [
        Series { name: "connections open".to_owned(), points: points(|s| f64::from(s.open)) },
        Series {
            name: "answers per second".to_owned(),
            points: points(|s| s.answers as f64 / s.seconds),
        },
        Series {
            name: "set-ups per second".to_owned(),
            points: points(|s| s.opened as f64 / s.seconds),
        },
    ];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!("{stem}-open.svg"));
    lines(
        &beside,
        title,
        time,
        Axis { name: "connections, and per second", logarithmic: false },
        &series,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_say_round_numbers() {
        let plain = Axis { name: "", logarithmic: false };
        let log = Axis { name: "", logarithmic: true };
        for (axis, place, text) in [
            (plain, 0.0, "0"),
            (plain, 2.5, "2.5"),
            (plain, 1_500_000.0, "1.5 M"),
            (log, 3.0, "1 k"),
            (log, 0.0, "1"),
            (log, -1.0, "0.10"),
        ] {
            assert_eq!(axis.label(place), text);
        }
        assert_eq!(log.place(0.0), None);
        assert_eq!(log.range([0.3, 2.1].into_iter()), 0.0..3.0);
        assert_eq!(plain.range(std::iter::empty()), 0.0..1.0);
    }

    #[test]
    fn a_chart_has_its_title_axes_and_legend() {
        let path = std::env::temp_dir().join(format!("xtcp-plot-{}.svg", std::process::id()));
        let mut histogram = Histogram::new_with_bounds(1, 1 << 38, 3).unwrap();
        for value in 1..10_000_u64 {
            histogram.record(value * 100).unwrap();
        }
        percentiles(&path, "Exchanges", &[("1 thousand", &histogram)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["Exchanges", "1 thousand", "latency in µs", "one request in so many"] {
            assert!(svg.contains(text), "{text}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
