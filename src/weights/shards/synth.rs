//! Random checkpoints in the forms that Apple's are published in: the right size and shape, and no
//! knowledge.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use super::staging::{Staging, unwritable};
use crate::config::{Config, Family, ProbeLayers};
use crate::error::{Error, Result};
use crate::random::SplitMix64;
use crate::weights::checkpoint::dtype::Dtype;
use crate::weights::checkpoint::safetensors::write_header;
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::checkpoint::torch::write::{self as torch, TorchWriter};
use crate::weights::files::ApplePair;
use crate::weights::layout::{self, Role};

/// What files a checkpoint is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `model.safetensors` and `config.json`.
    #[default]
    Safetensors,
    /// `pytorch_model.bin` and `config.json`, as the repository of a released model has them.
    Torch,
    /// A backbone and a probe for the best layers, as `apple/AIM` has them.
    Apple,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "safetensors" => Ok(Self::Safetensors),
            "torch" => Ok(Self::Torch),
            "apple" => Ok(Self::Apple),
            _ => Err(Error::option(format!(
                "{text:?} is no format: there are safetensors, torch and apple"
            ))),
        }
    }
}

/// Writes a checkpoint in F32. The values depend on `seed` and each tensor's name alone; they are
/// nearly normal, of a size that keeps the model's numbers in range. The bytes of its files.
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if the folder exists and `overwrite` is false, or
/// can't be written, or if Apple published no files of such a model.
pub fn write(
    config: &Config,
    seed: u64,
    format: Format,
    output: &Path,
    overwrite: bool,
) -> Result<u64> {
    let staging = Staging::new(output, overwrite)?;
    let entries: Vec<TensorInfo> = layout::tensors(config)
        .into_iter()
        .map(|spec| TensorInfo {
            dtype: if spec.role == Role::Counter {
                Dtype::I64
            } else {
                Dtype::F32
            },
            name: spec.name,
            shape: spec.shape,
        })
        .collect();
    let mut bytes = 0_u64;
    let mut checkpoint = |name: &str, entries: Vec<TensorInfo>| {
        let path = staging.dir().join(name);
        let create = || {
            let file = BufWriter::with_capacity(1 << 20, File::create_new(&path)?);
            match format {
                Format::Safetensors => safetensors(file, entries, seed),
                Format::Torch | Format::Apple => {
                    let root = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                    state_dict(file, root, &entries, seed)
                }
            }
        };
        let written = create().map_err(|error| unwritable(&path, &error))?;
        bytes = bytes.saturating_add(written);
        Ok::<_, Error>(())
    };
    match format {
        Format::Safetensors => checkpoint("model.safetensors", entries)?,
        Format::Torch => checkpoint("pytorch_model.bin", in_order(entries))?,
        Format::Apple => {
            let family = Family::of(config).ok_or_else(|| {
                Error::option("Apple published no files of a model of this shape")
            })?;
            let pair = ApplePair::new(family, Some(&ProbeLayers::Best));
            let is_head = |entry: &TensorInfo| entry.name.starts_with("head.");
            let (head, backbone) = in_order(entries).into_iter().partition(is_head);
            checkpoint(&pair.backbone, backbone)?;
            checkpoint(&pair.head, head)?;
        }
    }
    if format != Format::Apple {
        staging.write("config.json", &config.to_json())?;
    }
    staging.finish()?;
    Ok(bytes)
}

/// The order of the reference's state dict, in which the probe comes last.
fn in_order(mut entries: Vec<TensorInfo>) -> Vec<TensorInfo> {
    entries.sort_by_key(|entry| entry.name.starts_with("head."));
    entries
}

/// Writes a safetensors file as its library writes a state dict: wide types first, then by name.
fn safetensors(mut file: impl Write, mut entries: Vec<TensorInfo>, seed: u64) -> io::Result<u64> {
    entries.sort_by(|a, b| {
        let wide = |entry: &TensorInfo| entry.dtype == Dtype::I64;
        (wide(b), &a.name).cmp(&(wide(a), &b.name))
    });
    let (front, _) = write_header(&entries, &[("format", "pt")]).map_err(io::Error::other)?;
    let mut bytes = front.len() as u64;
    file.write_all(&front)?;
    for entry in &entries {
        bytes = bytes.saturating_add(tensor(&mut file, entry, seed)?);
    }
    file.flush()?;
    Ok(bytes)
}

/// Writes a file as `torch.save` does.
fn state_dict(file: impl Write, root: &str, entries: &[TensorInfo], seed: u64) -> io::Result<u64> {
    let tensors: Vec<torch::Entry<'_>> = entries
        .iter()
        .map(|entry| torch::Entry {
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
        })
        .collect();
    let mut writer = TorchWriter::new(file, root, &tensors)?;
    for entry in entries {
        writer.storage(|mut file| tensor(&mut file, entry, seed).map(drop))?;
    }
    writer.finish()
}

/// Writes the values of one tensor, and says how many bytes they take.
fn tensor(file: &mut impl Write, entry: &TensorInfo, seed: u64) -> io::Result<u64> {
    if entry.dtype == Dtype::I64 {
        file.write_all(&12345_i64.to_le_bytes())?;
        return Ok(8);
    }
    let count: usize = entry.shape.iter().product();
    let name = entry.name.as_str();
    let Spread {
        mean,
        deviation,
        is_variance,
    } = Spread::of(name, &entry.shape);
    let mut random = Random::new(seed, name);
    let mut bytes = Vec::with_capacity(1 << 16);
    let mut left = count;
    while left > 0 {
        let now = left.min(1 << 14);
        bytes.clear();
        for _ in 0..now {
            let z = random.normal();
            let z = if is_variance { z.abs() } else { z };
            bytes.extend_from_slice(&(mean + deviation * z).to_le_bytes());
        }
        file.write_all(&bytes)?;
        left -= now;
    }
    Ok(4 * count as u64)
}

/// How the values of a tensor lie, so that the model's numbers stay in range.
pub(in crate::weights) struct Spread {
    pub mean: f32,
    pub deviation: f32,
    /// Whether only what is above the mean will do.
    pub is_variance: bool,
}

impl Spread {
    pub fn of(name: &str, shape: &[usize]) -> Self {
        let fan_in: usize = shape.iter().skip(1).product();
        let (mean, deviation) = match name {
            _ if name.ends_with("running_mean") => (0.0, 0.5),
            _ if name.ends_with("running_var") => (0.5, 1.0),
            _ if name.ends_with("cls_token") => (0.0, 1.0),
            _ if name.ends_with(".bias") => (0.0, 0.25),
            _ if shape.len() == 1 => (1.0, 0.25),
            _ => (0.0, (fan_in as f32).sqrt().recip()),
        };
        Self {
            mean,
            deviation,
            is_variance: name.ends_with("running_var"),
        }
    }
}

/// Random numbers, started at the FNV-1a hash of a tensor's name.
pub(in crate::weights) struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64, name: &str) -> Self {
        let start = 0xCBF2_9CE4_8422_2325_u64 ^ seed;
        let hash = name.bytes().fold(start, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        Self(SplitMix64::new(hash))
    }

    /// The sum of four uniform numbers: mean 0, deviation 1, within 3.5.
    #[inline]
    pub fn normal(&mut self) -> f32 {
        let x = self.bits();
        let part = |shift: u32| (x >> shift) as u32 & 0xFFFF;
        let sum = part(0) + part(16) + part(32) + part(48);
        // Each part has mean 32767.5 and deviation 65536 / sqrt(12).
        (sum as f32 - 131_070.0) * 2.642_9e-5
    }

    /// 64 bits, each as often 0 as 1.
    #[inline]
    pub const fn bits(&mut self) -> u64 {
        self.0.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_nearly_normal_and_depend_on_seed_and_name() {
        let mut random = Random::new(1, "a");
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        let first = |seed, name| Random::new(seed, name).normal();
        assert_ne!(first(1, "a").to_bits(), first(2, "a").to_bits());
        assert_ne!(first(1, "a").to_bits(), first(1, "b").to_bits());
    }
}
