//! The small model that ships inside the library: `models/aim-tiny`.

use std::io::Cursor;

use crate::config::Config;
use crate::error::Result;
use crate::labels::Labels;
use crate::weights::{LocalModel, open_reader};

const CONFIG: &str = include_str!("../models/aim-tiny/config.json");
const LABELS: &str = include_str!("../models/aim-tiny/labels.json");
const WEIGHTS: &[u8] = include_bytes!("../models/aim-tiny/model-00001-of-00001.safetensors");

/// Opens the embedded model: hand digits, garments, and a class for neither. Its card is
/// `models/aim-tiny/README.md`.
///
/// # Errors
/// None, unless the library was built with a broken model.
pub fn open() -> Result<LocalModel> {
    let config = Config::from_json(CONFIG)?;
    let labels = Labels::from_json(LABELS, config.num_classes)?;
    let weights = open_reader(Cursor::new(WEIGHTS), "the embedded model")?;
    Ok(LocalModel::new(vec![weights], config, labels))
}
