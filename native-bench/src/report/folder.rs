//! The report as files: all of it as JSON, classes and confusion as tables, confusion as a picture.

use std::fmt::Write as _;
use std::path::Path;

use aim_web::Result;

use super::{Report, confusion};
use crate::files::{self, make_folder, write_whole};
use crate::output;

/// Makes the folder, and sees whether files can be written to it.
///
/// # Errors
/// If not.
pub fn try_out(folder: &Path) -> Result<()> {
    make_folder(folder)?;
    files::try_out(&folder.join("report.json"))
}

/// Writes `report.json`, `classes.csv`, `confusion.json`, `confusion.csv` and `confusion.svg`.
///
/// # Errors
/// If they can't be written.
pub fn write(folder: &Path, report: &Report) -> Result<()> {
    make_folder(folder)?;
    let write = |name: &str, text: String| write_whole(&folder.join(name), text.as_bytes());
    write("report.json", output::to_json(report)? + "\n")?;
    write("classes.csv", classes(report))?;
    let matrix = confusion::Matrix::new(report);
    write("confusion.json", output::to_json(&matrix)? + "\n")?;
    write("confusion.csv", table(&matrix))?;
    write("confusion.svg", matrix.svg())
}

fn classes(report: &Report) -> String {
    let mut text =
        "class,index,label,pictures,top_1,top_5,top_1_percent,top_5_percent,mean_loss\n".to_owned();
    for (name, class) in &report.classes {
        let counts = &class.counts;
        // A class without pictures has no share of them.
        let percent = |count| counts.percent(count).map(|share| format!("{share:.4}"));
        let mean = counts.mean_loss().map(|mean| format!("{mean:.6}"));
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{}",
            field(name),
            class.index,
            field(&class.label),
            counts.pictures,
            counts.top_1,
            counts.top_5,
            percent(counts.top_1).unwrap_or_default(),
            percent(counts.top_5).unwrap_or_default(),
            mean.unwrap_or_default()
        );
    }
    text
}

fn table(matrix: &confusion::Matrix<'_>) -> String {
    let mut text = "class".to_owned();
    for label in matrix.labels {
        text.push(',');
        text.push_str(&field(label));
    }
    text.push('\n');
    for row in &matrix.rows {
        text.push_str(&field(row.class));
        for index in 0..matrix.labels.len() {
            let _ = write!(text, ",{}", row.count(index));
        }
        text.push('\n');
    }
    text
}

/// A field of a table, as RFC 4180 has it.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_quoted_where_they_must() {
        assert_eq!(super::field("t-shirt"), "t-shirt");
        assert_eq!(super::field("a \"b\", c\n"), "\"a \"\"b\"\", c\n\"");
    }
}
