//! Rows as columns, for a terminal and for a page.

use super::row::Row;

/// The columns, and how wide they are in a terminal.
const COLUMNS: [(&str, usize); 13] = [
    ("device", 6),
    ("dtype", 5),
    ("threads", 7),
    ("layers", 6),
    ("batch", 5),
    ("ms an image", 11),
    ("lowest to highest", 17),
    ("images/s", 8),
    ("TFLOP/s", 8),
    ("of peak", 7),
    ("load, s", 7),
    ("host, MB", 8),
    ("GPU, MB", 7),
];

/// The last column, only where the driver counts.
const ENERGY: (&str, usize) = ("J an image", 10);

/// The heading for a terminal.
pub fn heading() -> String {
    let names = COLUMNS.iter().chain([&ENERGY]).map(|(name, _)| *name);
    aligned(names.map(str::to_owned))
}

/// A row for a terminal.
pub fn line(row: &Row) -> String {
    match &row.error {
        None => aligned(cells(row)),
        Some(failure) => {
            let setting = aligned(cells(row).take(5));
            format!("{} {}", setting.trim_end(), failure.message)
        }
    }
}

fn aligned(cells: impl Iterator<Item = String>) -> String {
    let widths = COLUMNS.iter().chain([&ENERGY]).map(|(_, width)| *width);
    let line: Vec<String> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect();
    line.join("  ").trim_end().to_owned()
}

/// All rows as a table in Markdown, with the adapters that they are of.
pub fn markdown(rows: &[Row]) -> String {
    let has_energy = rows.iter().any(|row| row.joules_per_image.is_some());
    let count = COLUMNS.len() + usize::from(has_energy);
    let names: Vec<&str> = COLUMNS
        .iter()
        .chain([&ENERGY])
        .take(count)
        .map(|(name, _)| *name)
        .collect();
    let mut text = format!(
        "| model | adapter | {} |\n|{}\n",
        names.join(" | "),
        "---|".repeat(count + 2)
    );
    for row in rows {
        let cells: Vec<String> = match &row.error {
            None => cells(row).take(count).collect(),
            Some(failure) => {
                let mut cells: Vec<String> = cells(row).take(5).collect();
                cells.push(escaped(&failure.message));
                cells.resize(count, String::new());
                cells
            }
        };
        let adapter = row.adapter.as_deref().map(escaped).unwrap_or_default();
        let model = escaped(&row.model);
        text.push_str(&format!(
            "| {model} | {adapter} | {} |\n",
            cells.join(" | ")
        ));
    }
    text
}

/// A text that is no markup.
fn escaped(text: &str) -> String {
    text.replace('|', "/").replace(['\n', '\r'], " ")
}

fn cells(row: &Row) -> impl Iterator<Item = String> {
    let megabytes = |bytes: Option<u64>| float(bytes.map(|bytes| bytes as f64 / 1e6));
    let range = match (row.ms_lowest, row.ms_highest) {
        (Some(lowest), Some(highest)) => {
            format!("{} to {}", digits(lowest), digits(highest))
        }
        _ => String::new(),
    };
    let share = row.peak_share.map(|share| format!("{:.0}%", 100.0 * share));
    [
        row.device.clone(),
        row.dtype.clone(),
        row.threads.map(|n| n.to_string()).unwrap_or_default(),
        layers(&row.probe_layers),
        row.batch.to_string(),
        float(row.ms_per_image),
        range,
        float(row.images_per_second),
        float(row.tflops),
        share.unwrap_or_default(),
        float(row.load_s),
        megabytes(row.peak_host_bytes),
        megabytes(row.peak_device_bytes),
        float(row.joules_per_image),
    ]
    .into_iter()
}

/// `14-19`, or a list.
pub fn layers(layers: &[usize]) -> String {
    match layers {
        [] => String::new(),
        [only] => only.to_string(),
        [first, .., last] if layers.windows(2).all(|pair| pair[0] + 1 == pair[1]) => {
            format!("{first}-{last}")
        }
        list => {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            list.join(",")
        }
    }
}

fn float(value: Option<f64>) -> String {
    value.map(digits).unwrap_or_default()
}

/// Three digits, and all that stand before the point.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.01 => 3,
        size if size > 0.0 => 5,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Failure;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (1234.5, "1234"),
            (99.96, "100"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.00123, "0.00123"),
            (0.0, "0"),
        ] {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn layers_are_short_where_they_are_neighbours() {
        assert_eq!(layers(&[14, 15, 16, 17, 18, 19]), "14-19");
        assert_eq!(layers(&[3]), "3");
        assert_eq!(layers(&[3, 0, 3]), "3,0,3");
        assert_eq!(layers(&[]), "");
    }

    #[test]
    fn columns_stand_below_their_names_and_no_name_breaks_the_page() {
        let row = Row {
            device: "gpu".to_owned(),
            adapter: Some("a | b".to_owned()),
            dtype: "q4".to_owned(),
            batch: 8,
            images_per_second: Some(123.4),
            ..Row::default()
        };
        let (heading, row_line) = (heading(), line(&row));
        let end = heading.find("images/s").unwrap() + "images/s".len();
        assert!(row_line[..end].ends_with(" 123"), "{heading}\n{row_line}");
        let failed = Row {
            error: Some(Failure {
                code: "out_of_memory".to_owned(),
                message: "too | large".to_owned(),
            }),
            ..row.clone()
        };
        assert!(
            line(&failed).ends_with("8 too | large"),
            "{}",
            line(&failed)
        );
        let page = markdown(&[row, failed]);
        let bars: Vec<usize> = page.lines().map(|line| line.matches('|').count()).collect();
        assert!(bars.windows(2).all(|pair| pair[0] == pair[1]), "{page}");
    }
}
