//! What an evaluation found: counts, as they grow, in files, and for people.
//!
//! | file | idea |
//! |---|---|
//! | `counts.rs` | sums that are exact in any order; their intervals |
//! | `counted.rs` | what one process has counted, of what; the sum of several |
//! | `folder.rs` | the report as files: JSON, CSV, SVG |
//! | `confusion.rs` | which class is taken for which, as a picture |

mod confusion;
pub mod counted;
pub mod counts;
mod folder;

use std::collections::BTreeMap;

use aim_web::Result;
use aim_web::hex::to_hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::counts::Counts;
use crate::args::Exif;
use crate::data::classes::By;
use crate::output::{self, say};

pub use self::folder::{try_out as try_folder, write as write_folder};

/// The report of an evaluation, or of one process's part of it, as JSON has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub pictures: u64,
    pub top_1: u64,
    pub top_5: u64,
    /// The sum of the pictures' cross-entropies.
    pub loss: f64,
    /// These are `None`, `null` in JSON, where no picture was counted.
    pub top_1_percent: Option<f64>,
    pub top_5_percent: Option<f64>,
    pub mean_loss: Option<f64>,
    /// Of 95%, in percent.
    pub top_1_interval: Option<[f64; 2]>,
    pub top_5_interval: Option<[f64; 2]>,
    /// Of 95%, for the mean; `None` of one picture, too.
    pub loss_interval: Option<[f64; 2]>,
    /// How many pictures can't be read: they are in no other count.
    pub broken: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Broken>,
    /// Pictures whose EXIF orientation was ignored.
    pub not_turned: u64,
    pub classes: BTreeMap<String, ClassReport>,
    /// How often which class of the model was the likeliest, by the class of the picture.
    pub confusion: BTreeMap<String, BTreeMap<usize, u64>>,
    pub classes_by: By,
    pub exif: Exif,
    pub device: String,
    pub model: ModelId,
    pub data: DataId,
    pub rank: u64,
    pub world_size: u64,
    /// The pictures that this process is to count: the first one, and the one after the last.
    pub assigned: [u64; 2],
    /// Those that it has counted.
    pub ranges: Vec<[u64; 2]>,
    /// How much of its file of results belongs to these counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Mark>,
}

/// The begin of a file of results: its length, and a hash over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub bytes: u64,
    pub sha256: String,
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            bytes: 0,
            sha256: to_hex(&Sha256::digest([])),
        }
    }
}

/// A class of the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassReport {
    /// Its number among the classes of the data.
    pub number: usize,
    /// The number of the model's class, and its name.
    pub index: usize,
    pub label: String,
    #[serde(flatten)]
    pub counts: Counts,
}

/// A picture that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub image: String,
    pub error: String,
}

/// Which model counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// As the command line named it.
    pub name: String,
    /// Over its configuration and its weights, as they are stored.
    pub sha256: String,
    /// In what precision it ran.
    pub dtype: String,
    pub probe_layers: Vec<usize>,
    /// Its classes.
    pub labels: Vec<String>,
}

/// Which pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataId {
    /// As the command line named them.
    pub path: String,
    /// Over their names, classes and lengths.
    pub sha256: String,
    pub pictures: u64,
    /// Those whose name begins with a dot.
    pub hidden: u64,
    pub empty_classes: Vec<String>,
}

impl Report {
    fn total(&self) -> Result<Counts> {
        let mut total = Counts::default();
        for class in self.classes.values() {
            total.add(&class.counts)?;
        }
        Ok(total)
    }
}

/// Shows a report to a person.
///
/// # Errors
/// Those of standard output.
pub fn print(report: &Report) -> Result<()> {
    for (name, class) in &report.classes {
        let counts = &class.counts;
        let Some(percent) = counts.percent(counts.top_1) else {
            continue;
        };
        say!(
            "{:<24} {:>5} of {:>5}  {percent:5.1}%",
            output::without_controls(name),
            counts.top_1,
            counts.pictures
        )?;
    }
    if !report.data.empty_classes.is_empty() {
        say!(
            "{} classes have no picture: {}",
            report.data.empty_classes.len(),
            output::without_controls(&output::some(report.data.empty_classes.iter()))
        )?;
    }
    if report.data.hidden > 0 {
        say!(
            "{} of the pictures are hidden files (.name), which the reference reads too",
            report.data.hidden
        )?;
    }
    if report.broken > 0 {
        say!("{} broken pictures are not counted", report.broken)?;
    }
    if report.world_size > 1 {
        say!(
            "the part of rank {} of {}: pictures {} to {} of {}",
            report.rank,
            report.world_size,
            report.assigned[0],
            report.assigned[1],
            report.data.pictures
        )?;
    }
    // What was not measured is a dash.
    let dash = || "-".to_owned();
    let percent = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.2}%"));
    let range = |bounds: Option<[f64; 2]>| {
        bounds.map_or_else(dash, |[low, high]| format!("{low:.2} to {high:.2}%"))
    };
    let (mean, bounds) = (report.mean_loss, report.loss_interval);
    say!(
        "95% intervals: top-1 {}  top-5 {}  loss {}",
        range(report.top_1_interval),
        range(report.top_5_interval),
        bounds.map_or_else(dash, |[low, high]| format!("{low:.4} to {high:.4}"))
    )?;
    say!(
        "top-1 {}  top-5 {}  loss {}  ({} pictures, {})",
        percent(report.top_1_percent),
        percent(report.top_5_percent),
        mean.map_or_else(dash, |mean| format!("{mean:.4}")),
        report.pictures,
        report.device
    )
}
