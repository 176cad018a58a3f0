//! Pictures a second as bars, in an SVG file.

use std::fmt::Write as _;

use super::row::Row;
use super::table::{digits, layers};
use crate::xml::escaped;

const WIDTH: f64 = 900.0;
/// Where bars begin and end.
const LEFT: f64 = 300.0;
const RIGHT: f64 = 690.0;
/// The height of a bar with what is above it.
const LINE: f64 = 20.0;
const HEAD: f64 = 34.0;
const COLOURS: [&str; 5] = ["#2a6f9d", "#2a9d6f", "#d9822b", "#8a5fbf", "#b5485d"];

/// A picture of all rows that have figures. Bars of one dtype have one colour; those of one adapter stand below its name.
pub fn svg(rows: &[Row]) -> String {
    let most = rows
        .iter()
        .filter_map(|row| row.images_per_second)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut dtypes: Vec<&str> = Vec::new();
    let mut body = String::new();
    let mut y = 40.0;
    let mut group = None;
    for row in rows {
        let (Some(speed), Some(ms)) = (row.images_per_second, row.ms_per_image) else {
            continue;
        };
        let title = (&row.model, &row.device, &row.adapter);
        if group != Some(title) {
            group = Some(title);
            y += HEAD;
            let adapter = row.adapter.as_deref().unwrap_or(&row.device);
            let title = escaped(&format!("{}: {adapter}", row.model));
            let above = y - 8.0;
            let _ = writeln!(
                body,
                r#"<text x="12" y="{above}" font-weight="bold">{title}</text>"#
            );
        }
        let colour = dtypes
            .iter()
            .position(|dtype| *dtype == row.dtype)
            .unwrap_or_else(|| {
                dtypes.push(&row.dtype);
                dtypes.len() - 1
            });
        let colour = COLOURS[colour % COLOURS.len()];
        let threads = match row.threads {
            Some(1) => ", 1 thread".to_owned(),
            Some(threads) => format!(", {threads} threads"),
            None => String::new(),
        };
        let setting = format!(
            "{}, batch {}{threads}, layers {}",
            row.dtype,
            row.batch,
            layers(&row.probe_layers)
        );
        let share = row
            .peak_share
            .map(|share| format!(", {:.0}% of peak", 100.0 * share));
        let figures = format!(
            "{} images/s, {} ms{}",
            digits(speed),
            digits(ms),
            share.unwrap_or_default()
        );
        let width = ((RIGHT - LEFT) * speed / most).max(1.0);
        let (bar, text) = (y + 3.0, y + 14.0);
        let _ = writeln!(
            body,
            r#"<text x="{}" y="{text}" text-anchor="end">{}</text>
<rect x="{LEFT}" y="{bar}" width="{width:.1}" height="14" fill="{colour}"/>
<text x="{:.1}" y="{text}">{}</text>"#,
            LEFT - 10.0,
            escaped(&setting),
            LEFT + width + 8.0,
            escaped(&figures)
        );
        y += LINE;
    }
    let height = y + 16.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="22" font-size="14">aim-bench bench: images a second</text>
{body}</svg>
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_formed_whatever_a_driver_calls_its_adapter() {
        let row = |dtype: &str, speed| Row {
            adapter: Some("<Radeon & \u{1}\u{ffff}\"co\">".to_owned()),
            dtype: dtype.to_owned(),
            batch: 8,
            threads: Some(2),
            images_per_second: speed,
            ms_per_image: speed.map(|speed: f64| 1e3 / speed),
            peak_share: Some(0.5),
            ..Row::default()
        };
        let rows = [
            row("q8", Some(50.0)),
            row("q4", Some(100.0)),
            row("q4", None),
        ];
        let text = svg(&rows);
        let picture = roxmltree::Document::parse(&text).unwrap();
        let bars: Vec<(f64, &str)> = picture
            .descendants()
            .filter(|node| node.has_tag_name("rect"))
            .filter_map(|node| {
                Some((
                    node.attribute("width")?.parse().ok()?,
                    node.attribute("fill")?,
                ))
            })
            .collect();
        assert_eq!(bars, [(195.0, COLOURS[0]), (390.0, COLOURS[1])]);
        let texts: Vec<&str> = picture
            .descendants()
            .filter_map(|node| node.text())
            .collect();
        assert!(texts.contains(&": <Radeon & \"co\">"), "{texts:?}");
        assert!(
            texts.contains(&"100 images/s, 10.0 ms, 50% of peak"),
            "{texts:?}"
        );
        roxmltree::Document::parse(&svg(&[])).unwrap();
    }
}
