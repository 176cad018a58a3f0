//! The tensors of checkpoint files against the layout of the model: strict about names, shapes and
//! types.

use std::collections::HashMap;

use super::checkpoint::{TensorInfo, printable};
use super::layout::{self, Role, TensorSpec};
use crate::config::Config;
use crate::error::{At as _, Error, Result};

/// How many names an error lists before it only counts.
const NAMES_IN_ERROR: usize = 3;

/// What of a model has been found, file by file.
///
/// Whatever the model would not run is held to the same: a checkpoint that differs there is not the
/// model that its configuration describes.
pub struct Inventory {
    /// The tensors of the model, in the order in which it is loaded.
    specs: Vec<TensorSpec>,
    /// Where each is in `specs`.
    by_name: HashMap<String, usize>,
    /// The file that holds it, once found.
    found_in: Vec<Option<String>>,
    num_blocks: usize,
}

/// A tensor of the model, found in a file.
#[derive(Clone, Debug)]
pub struct Located {
    /// What the model needs.
    pub spec: TensorSpec,
    /// Its index among the tensors of the file.
    pub index: usize,
}

impl Inventory {
    /// Nothing has been found yet of the model that `config` describes.
    pub fn new(config: &Config) -> Self {
        let specs = layout::tensors(config);
        Self {
            by_name: specs
                .iter()
                .enumerate()
                .map(|(i, spec)| (spec.name.clone(), i))
                .collect(),
            found_in: vec![None; specs.len()],
            specs,
            num_blocks: config.num_blocks,
        }
    }

    /// Checks the tensors of one more file, and says what each is, in the order of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if one is in no AIM model of this
    /// configuration, was in a file before, or has another shape or type.
    pub fn take(&mut self, file: &str, tensors: &[TensorInfo]) -> Result<Vec<Located>> {
        tensors
            .iter()
            .enumerate()
            .map(|(index, info)| {
                let Some(&place) = self.by_name.get(&info.name) else {
                    return Err(Error::format(format!(
                        "tensor {} is in no AIM v1 model of this configuration ({} blocks)",
                        printable(&info.name),
                        self.num_blocks
                    )));
                };
                if let Some(before) = &self.found_in[place] {
                    return Err(Error::format(format!(
                        "tensor {} is also in {before}",
                        info.name
                    )));
                }
                let spec = self.specs[place].clone();
                check(info, &spec)?;
                self.found_in[place] = Some(file.to_owned());
                Ok(Located { spec, index })
            })
            .collect::<Result<_>>()
            .at(file)
    }

    /// Ends the search.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) with the first tensors that are in no
    /// file.
    pub fn finish(&self) -> Result<()> {
        let missing: Vec<&str> = self
            .specs
            .iter()
            .zip(&self.found_in)
            .filter(|(spec, found)| found.is_none() && spec.role != Role::Counter)
            .map(|(spec, _)| spec.name.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let listed = missing[..missing.len().min(NAMES_IN_ERROR)].join(", ");
        let (noun, verb) = if missing.len() == 1 {
            ("tensor", "is")
        } else {
            ("tensors", "are")
        };
        let more = match missing.len().saturating_sub(NAMES_IN_ERROR) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let hint = if missing.iter().all(|name| name.starts_with("head.")) {
            "; the probe may be in a file of its own (`..._attnprobe_head_...`)"
        } else {
            ""
        };
        Err(Error::not_found(format!(
            "{noun} {listed}{more} {verb} missing{hint}"
        )))
    }
}

/// Checks one tensor of a file against what the model needs.
fn check(info: &TensorInfo, spec: &TensorSpec) -> Result<()> {
    if info.shape != spec.shape {
        return Err(Error::format(format!(
            "tensor {} has shape {:?}, but the configuration needs {:?}{}",
            info.name,
            info.shape,
            spec.shape,
            hint(&info.shape, &spec.shape)
        )));
    }
    if spec.role != Role::Counter && !info.dtype.is_float() {
        return Err(Error::format(format!(
            "tensor {} has type {}, but weights must be F64, F32, F16 or BF16",
            info.name, info.dtype
        )));
    }
    Ok(())
}

/// What a wrong shape most likely means.
fn hint(own: &[usize], wanted: &[usize]) -> &'static str {
    match (own, wanted) {
        (&[a, b], &[c, d]) if (a, b) == (d, c) => "; it is transposed",
        (&[a, b, c, d], &[e, f, g, h]) if (a, b, c, d) == (e, g, h, f) => {
            "; channels come last, as in the MLX and JAX files: take the PyTorch ones"
        }
        _ => "",
    }
}
