//! Which class is taken for which, as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::Report;
use crate::xml::escaped;

/// Counts by the class of the picture and the likeliest class of the model.
#[derive(Serialize)]
pub struct Matrix<'a> {
    /// The model's classes: the columns.
    pub labels: &'a [String],
    pub rows: Vec<Row<'a>>,
}

/// The pictures of a class.
#[derive(Serialize)]
pub struct Row<'a> {
    pub class: &'a str,
    /// The column that is right.
    pub index: usize,
    pub pictures: u64,
    /// How many are taken for what, by column.
    pub counts: BTreeMap<usize, u64>,
}

impl Row<'_> {
    pub fn count(&self, column: usize) -> u64 {
        self.counts.get(&column).copied().unwrap_or(0)
    }
}

/// Above so many columns there is no room for names and numbers.
const MOST_NAMED: usize = 64;

impl<'a> Matrix<'a> {
    /// The rows follow the columns of their classes.
    pub fn new(report: &'a Report) -> Self {
        let mut rows: Vec<Row<'a>> = report
            .classes
            .iter()
            .map(|(name, class)| Row {
                class: name,
                index: class.index,
                pictures: class.counts.pictures,
                counts: report.confusion.get(name).cloned().unwrap_or_default(),
            })
            .collect();
        rows.sort_by_key(|row| row.index);
        Self {
            labels: &report.model.labels,
            rows,
        }
    }

    /// The picture: a cell is the darker, the more of its row's pictures are in it; what is right is blue, the rest red.
    pub fn svg(&self) -> String {
        let is_named = self.labels.len() <= MOST_NAMED;
        let (cell, left, top) = if is_named {
            (28, 150, 130)
        } else {
            (2, 40, 40)
        };
        let width = left + cell * self.labels.len() + 20;
        let height = top + cell * self.rows.len() + 20;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>Confusion: rows are the pictures' classes, columns what they are taken for</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        );
        let (columns_end, rows_end) = (width - 20, height - 20);
        // Writing to a text does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"#f6f6f6\" stroke=\"#ccc\"/>",
            columns_end - left,
            rows_end - top
        );
        if is_named {
            for (column, label) in self.labels.iter().enumerate() {
                let x = left + cell * column + cell / 2 + 4;
                let y = top - 6;
                let _ = writeln!(
                    svg,
                    "<text x=\"{x}\" y=\"{y}\" transform=\"rotate(-60 {x} {y})\">{}</text>",
                    short(label)
                );
            }
        }
        for (n, row) in self.rows.iter().enumerate() {
            let y = top + cell * n;
            if is_named {
                let _ = writeln!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                    left - 6,
                    y + cell / 2 + 4,
                    short(row.class)
                );
            }
            for (&column, &count) in &row.counts {
                let share = count as f64 / row.pictures.max(1) as f64;
                let color = if column == row.index {
                    "#1f5fbf"
                } else {
                    "#c0392b"
                };
                let x = left + cell * column;
                let _ = write!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{cell}\" height=\"{cell}\" fill=\"{color}\" fill-opacity=\"{:.3}\"><title>{} as {}: {count} of {}</title></rect>",
                    0.08 + 0.92 * share,
                    short(row.class),
                    short(self.labels.get(column).map_or("", String::as_str)),
                    row.pictures
                );
                if is_named {
                    let ink = if share > 0.5 { "#fff" } else { "#222" };
                    let _ = write!(
                        svg,
                        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{ink}\">{count}</text>",
                        x + cell / 2,
                        y + cell / 2 + 4
                    );
                }
                svg.push('\n');
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The first of a text, for XML.
fn short(text: &str) -> String {
    const MOST: usize = 20;
    let mut chars = text.chars();
    let mut start: String = chars.by_ref().take(MOST).collect();
    if chars.next().is_some() {
        start.push('…');
    }
    escaped(&start)
}
