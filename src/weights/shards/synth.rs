//! Random checkpoints in Apple's layout: the right size and shape, and no knowledge.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use super::staging::{Staging, unwritable};
use super::write::{Entry, header};
use crate::config::Config;
use crate::error::Result;
use crate::weights::checkpoint::dtype::Dtype;
use crate::weights::layout::{self, Role};

/// Writes `model.safetensors`, in F32 and in the order of the hub's files, and `config.json`. The
/// values depend on `seed` and each tensor's name alone; they are nearly normal, of a size that keeps
/// the model's numbers in range. The bytes of the checkpoint.
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if the folder exists and `overwrite` is false, or
/// can't be written.
pub fn write(config: &Config, seed: u64, output: &Path, overwrite: bool) -> Result<u64> {
    let staging = Staging::new(output, overwrite)?;
    let mut entries: Vec<Entry> = layout::tensors(config)
        .into_iter()
        .map(|spec| Entry {
            dtype: if spec.role == Role::Counter {
                Dtype::I64
            } else {
                Dtype::F32
            },
            name: spec.name,
            shape: spec.shape,
        })
        .collect();
    // As the safetensors library writes a state dict: wide types first, then by name.
    entries.sort_by(|a, b| {
        let wide = |entry: &Entry| entry.dtype == Dtype::I64;
        (wide(b), &a.name).cmp(&(wide(a), &b.name))
    });
    let (front, _) = header(&entries, "pt")?;
    let path = staging.dir().join("model.safetensors");
    let mut bytes = front.len() as u64;
    let write = |bytes: &mut u64| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&path)?);
        file.write_all(&front)?;
        for entry in &entries {
            let written = tensor(&mut file, entry, seed)?;
            *bytes = bytes.saturating_add(written);
        }
        file.flush()
    };
    write(&mut bytes).map_err(|error| unwritable(&path, &error))?;
    staging.write("config.json", &config.to_json())?;
    staging.finish()?;
    Ok(bytes)
}

/// Writes the values of one tensor, and says how many bytes they take.
fn tensor(file: &mut impl std::io::Write, entry: &Entry, seed: u64) -> std::io::Result<u64> {
    if entry.dtype == Dtype::I64 {
        file.write_all(&12345_i64.to_le_bytes())?;
        return Ok(8);
    }
    let count: usize = entry.shape.iter().product();
    let fan_in: usize = entry.shape.iter().skip(1).product();
    let name = entry.name.as_str();
    let (mean, deviation) = match name {
        _ if name.ends_with("running_mean") => (0.0, 0.5),
        _ if name.ends_with("running_var") => (0.5, 1.0),
        _ if name.ends_with("cls_token") => (0.0, 1.0),
        _ if name.ends_with(".bias") => (0.0, 0.25),
        _ if entry.shape.len() == 1 => (1.0, 0.25),
        _ => (0.0, (fan_in as f32).sqrt().recip()),
    };
    let is_variance = name.ends_with("running_var");
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

/// Splitmix64, started at the FNV-1a hash of a tensor's name.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        let start = 0xCBF2_9CE4_8422_2325_u64 ^ seed;
        Self(name.bytes().fold(start, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        }))
    }

    /// The sum of four uniform numbers: mean 0, deviation 1, within 3.5.
    #[inline]
    fn normal(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        let part = |shift: u32| (x >> shift) as u32 & 0xFFFF;
        let sum = part(0) + part(16) + part(32) + part(48);
        // Each part has mean 32767.5 and deviation 65536 / sqrt(12).
        (sum as f32 - 131_070.0) * 2.642_9e-5
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
