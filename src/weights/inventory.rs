//! The tensors of checkpoint files against the layout of the model: strict about names, shapes and
//! types.

use std::collections::HashMap;

use super::checkpoint::dtype::Dtype;
use super::checkpoint::tensor_info::TensorInfo;
use super::layout::{self, Role, TensorSpec};
use crate::config::Config;
use crate::error::{At as _, Error, Result, printable};
use crate::quant::Scheme;

/// How many names an error lists before it only counts.
const NAMES_IN_ERROR: usize = 3;

/// What of a model has been found, file by file.
///
/// Whatever the model would not run is held to the same: a checkpoint that differs there is not the
/// model that its configuration describes.
pub struct Inventory {
    /// The tensors of the model, in the order in which it is loaded.
    specs: Vec<TensorSpec>,
    /// Where each name that a file may hold is in `specs`, and what of it.
    by_name: HashMap<String, (usize, Slot)>,
    /// What has been found of each.
    found: Vec<Found>,
    num_blocks: usize,
    quantization: Option<Scheme>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The tensor itself, or its codes.
    Tensor,
    Scales,
    Biases,
}

/// What has been found of a tensor of the model.
#[derive(Clone, Debug, Default)]
struct Found {
    /// The file that holds it.
    tensor: Option<String>,
    /// Whether that one holds its codes.
    is_codes: bool,
    scales: Option<String>,
    biases: Option<String>,
}

/// What a tensor of a file is to the tensor of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, in floats.
    Whole,
    /// The codes of a quantised matrix.
    Codes(Scheme),
    /// The scales of a quantised matrix.
    Scales(Scheme),
    /// The biases of a quantised matrix.
    Biases(Scheme),
}

/// A tensor of the model, or a part of it, found in a file.
#[derive(Clone, Debug)]
pub struct Located {
    /// What the model needs.
    pub spec: TensorSpec,
    /// What of it this is.
    pub part: Part,
    /// Its index among the tensors of the file.
    pub index: usize,
}

impl Inventory {
    /// Nothing has been found yet of the model that `config` describes.
    pub fn new(config: &Config) -> Self {
        let specs = layout::tensors(config);
        let mut by_name = HashMap::new();
        for (i, spec) in specs.iter().enumerate() {
            by_name.insert(spec.name.clone(), (i, Slot::Tensor));
            if config.quantization.is_some() && spec.role == Role::Linear {
                let [scales, biases] = group_names(&spec.name);
                by_name.insert(scales, (i, Slot::Scales));
                by_name.insert(biases, (i, Slot::Biases));
            }
        }
        Self {
            by_name,
            found: vec![Found::default(); specs.len()],
            specs,
            num_blocks: config.num_blocks,
            quantization: config.quantization,
        }
    }

    /// Checks the tensors of one more file, and says what each is, in the order of the file.
    ///
    /// What the model was wrapped in when it was saved (`module.`, `_orig_mod.`) may stand before all names of a file.
    ///
    /// In a quantised checkpoint the weight of a linear layer is codes, scales and biases, or, if
    /// its publisher kept it so, floats.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if one is in no AIM model of this
    /// configuration, was in a file before, or has another shape or type;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for codes of rows that don't fall
    /// into whole groups.
    pub fn take(&mut self, file: &str, tensors: &[TensorInfo]) -> Result<Vec<Located>> {
        let wrapper = tensors
            .first()
            .map_or("", |info| layout::wrapper(&info.name));
        tensors
            .iter()
            .enumerate()
            .map(|(index, info)| {
                let (place, slot) = self.claim(file, &info.name, wrapper)?;
                let spec = self.specs[place].clone();
                let part = check(info, &spec, slot, self.quantization)?;
                self.found[place].is_codes |= matches!(part, Part::Codes(_));
                Ok(Located { spec, part, index })
            })
            .collect::<Result<_>>()
            .at(file)
    }

    /// What a name, wrapped or not, stands for; `None` if the model has no such tensor.
    pub fn spec(&self, name: &str) -> Option<&TensorSpec> {
        let (place, _) = self.by_name.get(layout::unwrapped(name))?;
        self.specs.get(*place)
    }

    /// The tensors of the model, in the order in which it is loaded.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Takes an index's word for the tensors of a file that is not read.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if one is in no AIM model of this
    /// configuration or was in a file before.
    pub fn trust(&mut self, file: &str, tensors: &[&str]) -> Result<()> {
        let wrapper = tensors.first().map_or("", |name| layout::wrapper(name));
        for name in tensors {
            let (place, slot) = self.claim(file, name, wrapper)?;
            self.found[place].is_codes |= slot != Slot::Tensor;
        }
        Ok(())
    }

    /// Notes that a file holds a tensor, and says what the name stands for.
    fn claim(&mut self, file: &str, name: &str, wrapper: &str) -> Result<(usize, Slot)> {
        let bare = name.strip_prefix(wrapper);
        let Some(&(place, slot)) = bare.and_then(|bare| self.by_name.get(bare)) else {
            return Err(self.unknown(name));
        };
        let found = &mut self.found[place];
        let holder = match slot {
            Slot::Tensor => &mut found.tensor,
            Slot::Scales => &mut found.scales,
            Slot::Biases => &mut found.biases,
        };
        if let Some(before) = holder {
            return Err(Error::format(format!("tensor {name} is also in {before}")));
        }
        *holder = Some(file.to_owned());
        Ok((place, slot))
    }

    /// Ends the search.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) with the first tensors that are in no
    /// file; [`ErrorKind::Format`](crate::ErrorKind::Format) for scales or biases of a weight that
    /// is not quantised.
    pub fn finish(&self) -> Result<()> {
        let mut missing = Vec::new();
        for (spec, found) in self.specs.iter().zip(&self.found) {
            if found.tensor.is_none() {
                if spec.role != Role::Counter {
                    missing.push(spec.name.clone());
                }
                continue;
            }
            let groups = [&found.scales, &found.biases];
            for (name, group) in group_names(&spec.name).into_iter().zip(groups) {
                match group {
                    None if found.is_codes => missing.push(name),
                    Some(file) if !found.is_codes => {
                        return Err(Error::format(format!(
                            "tensor {name} in {file} belongs to a quantised weight, but {} is none",
                            spec.name
                        )));
                    }
                    _ => {}
                }
            }
        }
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

    /// A name that the model does not have.
    fn unknown(&self, name: &str) -> Error {
        let is_group = self.quantization.is_none()
            && [".scales", ".biases"].iter().any(|end| name.ends_with(end));
        let hint = if is_group {
            "; the checkpoint is quantised, but its config.json has no \"quantization\""
        } else if self.spec(name).is_some() {
            "; other names of the file begin otherwise: save the state dict of one model"
        } else {
            ""
        };
        Error::format(format!(
            "tensor {} is in no AIM v1 model of this configuration ({} blocks){hint}",
            printable(name),
            self.num_blocks
        ))
    }
}

/// The names of the scales and biases of a quantised weight, as MLX writes them.
pub fn group_names(weight: &str) -> [String; 2] {
    let layer = weight.strip_suffix(".weight").unwrap_or(weight);
    [format!("{layer}.scales"), format!("{layer}.biases")]
}

/// Checks one tensor of a file against what the model needs, and says what it is.
fn check(
    info: &TensorInfo,
    spec: &TensorSpec,
    slot: Slot,
    quantization: Option<Scheme>,
) -> Result<Part> {
    match (slot, quantization, spec.shape.as_slice()) {
        (Slot::Tensor, Some(scheme), &[d_output, d_input])
            if spec.role == Role::Linear && info.dtype == Dtype::U32 =>
        {
            let sizes = scheme.sizes(d_output, d_input);
            let sizes = sizes.at(format!("tensor {}", info.name))?;
            check_shape(info, &[d_output, sizes.words_per_row])?;
            Ok(Part::Codes(scheme))
        }
        (Slot::Scales | Slot::Biases, Some(scheme), &[d_output, d_input]) => {
            let sizes = scheme.sizes(d_output, d_input);
            let sizes = sizes.at(format!("tensor {}", info.name))?;
            check_shape(info, &[d_output, sizes.groups_per_row])?;
            if !matches!(info.dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32) {
                return Err(Error::format(format!(
                    "tensor {} has type {}, but scales and biases must be F16, BF16 or F32",
                    info.name, info.dtype
                )));
            }
            Ok(if slot == Slot::Scales {
                Part::Scales(scheme)
            } else {
                Part::Biases(scheme)
            })
        }
        _ => {
            if spec.role == Role::Linear && info.dtype == Dtype::U32 {
                return Err(Error::format(format!(
                    "tensor {} has type U32, as codes of a quantised weight, but config.json has no \"quantization\"",
                    info.name
                )));
            }
            check_shape(info, &spec.shape)?;
            if spec.role != Role::Counter && !info.dtype.is_float() {
                return Err(Error::format(format!(
                    "tensor {} has type {}, but weights must be F64, F32, F16 or BF16",
                    info.name, info.dtype
                )));
            }
            Ok(Part::Whole)
        }
    }
}

/// Checks the shape of a tensor of a file.
fn check_shape(info: &TensorInfo, wanted: &[usize]) -> Result<()> {
    if info.shape == wanted {
        return Ok(());
    }
    Err(Error::format(format!(
        "tensor {} has shape {:?}, but the configuration needs {wanted:?}{}",
        info.name,
        info.shape,
        hint(&info.shape, wanted)
    )))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;

    #[test]
    fn names_of_an_index_may_be_wrapped_all_alike() {
        let config = Family::Aim600M.config();
        let names: Vec<String> = layout::tensors(&config)
            .into_iter()
            .map(|spec| spec.name)
            .collect();
        let trust = |wrap: &dyn Fn(usize, &str) -> String| {
            let wrapped: Vec<String> = names
                .iter()
                .enumerate()
                .map(|(number, name)| wrap(number, name))
                .collect();
            let wrapped: Vec<&str> = wrapped.iter().map(String::as_str).collect();
            let mut inventory = Inventory::new(&config);
            assert!(wrapped.iter().all(|name| inventory.spec(name).is_some()));
            inventory.trust("file", &wrapped)?;
            inventory.finish()
        };
        for wrapper in ["", "module.", "_orig_mod.", "module._orig_mod."] {
            trust(&|_, name| format!("{wrapper}{name}")).unwrap();
        }
        let mixed = trust(&|number, name| {
            let wrapper = if number == 7 { "module." } else { "" };
            format!("{wrapper}{name}")
        });
        let error = mixed.unwrap_err().to_string();
        assert!(
            error.contains("tensor module.") && error.contains("begin otherwise"),
            "{error}"
        );
    }
}
