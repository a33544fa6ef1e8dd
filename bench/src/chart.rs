//! Plain SVG, by hand: bars for a line, curves for what grows. Light and dark pages alike.

use crate::figure::{Unit, thousands};
use crate::results::{CurveResult, LineResult};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const OURS: &str = "#d9480f";
const PEERS: [&str; 7] =
    ["#1c7ed6", "#2b8a3e", "#862e9c", "#e8590c", "#0b7285", "#5c940d", "#868e96"];

fn head(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<style>text{{fill:#333}}.grid{{stroke:#ccc}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}.grid{{stroke:#555}}}}</style>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _infallible =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// A bar for each contestant.
pub(crate) fn bars(line: &LineResult) -> String {
    const ROW: f64 = 26.0;
    const LEFT: f64 = 290.0;
    const RIGHT: f64 = 110.0;
    let mut out = head(ROW * line.figures.len() as f64 + 12.0);
    let most = line.figures.iter().map(|figure| figure.value).fold(f64::MIN_POSITIVE, f64::max);
    for (at, figure) in line.figures.iter().enumerate() {
        let y = 6.0 + ROW * at as f64;
        let length = (WIDTH - LEFT - RIGHT) * (figure.value / most).max(0.0);
        let colour = if figure.is_ours() { OURS } else { PEERS[0] };
        text(&mut out, LEFT - 8.0, y + 17.0, "end", &figure.name);
        let _infallible = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            y + 3.0,
            ROW - 6.0
        );
        text(&mut out, LEFT + length + 6.0, y + 17.0, "start", &line.unit.show(figure.value));
    }
    out + "</svg>\n"
}

/// A polyline for each contestant; both axes are logarithmic, for both span decades.
pub(crate) fn curves(curve: &CurveResult) -> String {
    const HEIGHT: f64 = 380.0;
    const LEFT: f64 = 90.0;
    const TOP: f64 = 14.0;
    const RIGHT: f64 = 210.0;
    const BOTTOM: f64 = 44.0;
    let values = || {
        curve
            .points
            .iter()
            .flat_map(|(_, figures)| figures.iter().map(|figure| figure.value))
            .filter(|value| *value > 0.0)
    };
    let xs = || curve.points.iter().map(|(x, _)| *x);
    let (low_x, high_x) = (xs().fold(f64::MAX, f64::min), xs().fold(f64::MIN_POSITIVE, f64::max));
    let (low_y, high_y) =
        (values().fold(f64::MAX, f64::min) / 1.3, values().fold(f64::MIN_POSITIVE, f64::max) * 1.3);
    let along = |value: f64, low: f64, high: f64| {
        if high > low { (value / low).ln() / (high / low).ln() } else { 0.5 }
    };
    let to_x = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * along(x, low_x, high_x);
    let to_y = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * along(y, low_y, high_y);
    let mut out = head(HEIGHT);
    for y in ticks(low_y, high_y) {
        let at = to_y(y);
        let _infallible = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        text(&mut out, LEFT - 8.0, at + 4.0, "end", &Unit::show(curve.unit, y));
    }
    for x in xs() {
        text(&mut out, to_x(x), HEIGHT - BOTTOM + 20.0, "middle", &short(x));
    }
    text(&mut out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0, "middle", &curve.along);
    let mut names: Vec<&str> = Vec::new();
    for figure in curve.points.iter().flat_map(|(_, figures)| figures) {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    let mut peer = 0;
    for (at, name) in names.iter().enumerate() {
        let colour = if at == 0 {
            OURS
        } else {
            peer += 1;
            PEERS[(peer - 1) % PEERS.len()]
        };
        let points: Vec<String> = curve
            .points
            .iter()
            .filter_map(|(x, figures)| {
                Some((
                    x,
                    figures.iter().find(|figure| figure.name == *name && figure.value > 0.0)?.value,
                ))
            })
            .map(|(x, y)| format!("{:.1},{:.1}", to_x(*x), to_y(y)))
            .collect();
        let _infallible = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let y = TOP + 14.0 + 20.0 * at as f64;
        let x = WIDTH - RIGHT + 12.0;
        let _infallible = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
            y - 10.0
        );
        text(&mut out, x + 18.0, y, "start", name);
    }
    out + "</svg>\n"
}

/// 1, 2 and 5 of each decade, so that there are a few whatever the range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decade = low.log10().floor() as i32;
    let all = (decade..decade + 12)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|part| part * 10f64.powi(decade)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

fn short(count: f64) -> String {
    match count {
        _ if count >= 1e6 => format!("{}M", thousands(count / 1e6)),
        _ if count >= 1e3 => format!("{}k", thousands(count / 1e3)),
        _ => thousands(count),
    }
}
