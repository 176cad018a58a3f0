//! Random weights that lie in no file: of a model that is to be measured, and need not know anything.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::checkpoint::dtype::Dtype;
use super::checkpoint::tensor_info::TensorInfo;
use super::checkpoint::{Checkpoint, PIECE, no_such_tensor};
use super::inventory::group_names;
use super::layout::{self, Role};
use super::shards::synth::{Random, Spread};
use crate::config::Config;
use crate::error::Result;
use crate::precision::WeightFormat;
use crate::quant::Scheme;

/// A prime, so that the rows of no matrix are alike.
const PATTERN: usize = 1_048_573;

/// A checkpoint of random weights that are kept already as the model keeps them: floats of 32 or 16 bits, or codes.
///
/// Its values come from one list of random numbers, at which every tensor begins elsewhere, so that a model of 7 billion
/// parameters is there in seconds. They are of the size of [`synth`](super::shards::synth)'s.
pub struct Synthetic {
    tensors: Vec<TensorInfo>,
    form: WeightFormat,
    seed: u64,
    normal: Vec<f32>,
}

impl Synthetic {
    /// The checkpoint of a model that is kept in a form, and its configuration: that of a quantised checkpoint if the form has
    /// codes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the form has codes and the rows don't fall into whole groups, or a matrix passes the platform's
    /// address space.
    pub fn new(config: &Config, form: WeightFormat, seed: u64) -> Result<(Self, Config)> {
        let mut tensors = Vec::new();
        for spec in layout::tensors(config) {
            let info = |name: String, dtype, shape| TensorInfo { name, dtype, shape };
            match (spec.role, form, spec.shape.as_slice()) {
                // It may be absent.
                (Role::Counter, ..) => {}
                (Role::Linear, WeightFormat::Quantised(scheme), &[d_output, d_input]) => {
                    let sizes = scheme.sizes(d_output, d_input)?;
                    let [scales, biases] = group_names(&spec.name);
                    let groups = vec![d_output, sizes.groups_per_row];
                    let words = vec![d_output, sizes.words_per_row];
                    tensors.push(info(spec.name, Dtype::U32, words));
                    tensors.push(info(scales, Dtype::F16, groups.clone()));
                    tensors.push(info(biases, Dtype::F16, groups));
                }
                (Role::Linear, WeightFormat::Fp16, _) => {
                    tensors.push(info(spec.name, Dtype::F16, spec.shape));
                }
                _ => tensors.push(info(spec.name, Dtype::F32, spec.shape)),
            }
        }
        let mut random = Random::new(seed, "pattern");
        let checkpoint = Self {
            tensors,
            form,
            seed,
            normal: (0..PATTERN).map(|_| random.normal()).collect(),
        };
        let quantization = match form {
            WeightFormat::Quantised(scheme) => Some(scheme),
            WeightFormat::Fp32 | WeightFormat::Fp16 => None,
        };
        let config = Config {
            quantization,
            ..config.clone()
        };
        Ok((checkpoint, config))
    }

    /// Passes on `count` values of the list, mapped, from where the tensor `name` begins.
    fn values(
        &self,
        name: &str,
        count: u64,
        mut sink: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut at = (Random::new(self.seed, name).bits() % PATTERN as u64) as usize;
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE / 4);
            let piece = &self.normal[at..];
            let piece = &piece[..piece.len().min(most)];
            sink(piece)?;
            left -= piece.len() as u64;
            at = (at + piece.len()) % PATTERN;
        }
        Ok(())
    }
}

/// Scale and bias under which equally likely codes have mean 0 and the deviation of a matrix with so many inputs.
fn scale_and_bias(scheme: Scheme, d_input: usize) -> (f32, f32) {
    let most = scheme.bits().max_code() as f32;
    // `most + 1` equally likely whole numbers.
    let deviation = (((most + 1.0).powi(2) - 1.0) / 12.0).sqrt();
    let scale = (d_input as f32).sqrt().recip() / deviation;
    (scale, -scale * most / 2.0)
}

impl Checkpoint for Synthetic {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn name(&self) -> &str {
        "random weights"
    }

    fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(info) = self.tensors.get(index) else {
            return Err(no_such_tensor(self.name(), index));
        };
        let (name, count) = (info.name.as_str(), info.numel());
        let mut bytes: Vec<u8> = Vec::with_capacity(PIECE);
        if let (WeightFormat::Quantised(scheme), true) = (self.form, info.dtype != Dtype::F32) {
            if info.dtype == Dtype::U32 {
                let mut random = Random::new(self.seed, name);
                let mut left = info.bytes();
                while left > 0 {
                    bytes.clear();
                    while bytes.len() < PIECE {
                        bytes.extend_from_slice(&random.bits().to_le_bytes());
                    }
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
                    sink(&bytes[..now])?;
                    left -= now as u64;
                }
                return Ok(());
            }
            // Of a matrix of [d_output, groups * group_size].
            let groups = info.shape.get(1).copied().unwrap_or_default();
            let (scale, bias) = scale_and_bias(scheme, groups * scheme.group_size());
            let value = if name.ends_with(".scales") {
                scale
            } else {
                bias
            };
            let value = f16::from_f32(value).to_le_bytes();
            bytes.extend(value.iter().cycle().take(PIECE));
            let mut left = info.bytes();
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
                sink(&bytes[..now])?;
                left -= now as u64;
            }
            return Ok(());
        }

        let Spread {
            mean,
            deviation,
            is_variance,
        } = Spread::of(name, &info.shape);
        let halves = info.dtype == Dtype::F16;
        let mut scaled: Vec<f32> = Vec::new();
        let mut rounded: Vec<f16> = Vec::new();
        self.values(name, count, |values| {
            scaled.clear();
            scaled.extend(values.iter().map(|&z| {
                let z = if is_variance { z.abs() } else { z };
                mean + deviation * z
            }));
            bytes.clear();
            if halves {
                rounded.resize(scaled.len(), f16::ZERO);
                rounded.convert_from_f32_slice(&scaled);
                bytes.extend(rounded.iter().flat_map(|value| value.to_le_bytes()));
            } else {
                bytes.extend(scaled.iter().flat_map(|value| value.to_le_bytes()));
            }
            sink(&bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Bits, QuantMatrix, dequantize};
    use crate::weights::load;

    fn config() -> Config {
        Config {
            img_size: [28, 28],
            patch_size: [14, 14],
            num_channels: 3,
            embed_dim: 64,
            num_blocks: 2,
            num_heads: 2,
            num_classes: 10,
            probe_layers: vec![0, 1],
            quantization: None,
        }
    }

    #[test]
    fn it_is_a_whole_checkpoint_in_every_form() {
        let q4 = Scheme::for_rows(Bits::Four, 64).unwrap();
        for form in [
            WeightFormat::Fp32,
            WeightFormat::Fp16,
            WeightFormat::Quantised(q4),
        ] {
            let (checkpoint, config) = Synthetic::new(&config(), form, 1).unwrap();
            let mut files: Vec<Box<dyn Checkpoint>> = vec![Box::new(checkpoint)];
            load::locate(&files, &config).unwrap();
            for index in 0..files[0].tensors().len() {
                let wanted = files[0].tensors()[index].bytes();
                let mut bytes = 0;
                files[0]
                    .read(index, &mut |piece| {
                        assert!(piece.len() <= PIECE);
                        bytes += piece.len() as u64;
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(bytes, wanted, "{:?}", files[0].tensors()[index]);
            }
        }
    }

    /// Mean and deviation of a matrix of `[64, 4096]`.
    fn spread_of(form: WeightFormat) -> (f64, f64) {
        let mut config = config();
        config.embed_dim = 4096;
        config.num_heads = 32;
        let (mut checkpoint, _) = Synthetic::new(&config, form, 1).unwrap();
        let find = |checkpoint: &Synthetic, name: &str| {
            let tensors = checkpoint.tensors();
            tensors.iter().position(|info| info.name == name).unwrap()
        };
        let mut bytes_of = |name: &str| {
            let index = find(&checkpoint, name);
            let mut bytes = Vec::new();
            checkpoint
                .read(index, &mut |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            bytes
        };
        let weights = match form {
            WeightFormat::Quantised(scheme) => {
                let parts = ["weight", "scales", "biases"]
                    .map(|part| bytes_of(&format!("head.linear.{part}")));
                let [codes, scales, biases] = parts;
                let words = codes.as_chunks().0.iter();
                let words = words.map(|&word| u32::from_le_bytes(word)).collect();
                let halves = |bytes: Vec<u8>| {
                    let values = bytes.as_chunks().0.iter();
                    values.map(|&value| f16::from_le_bytes(value)).collect()
                };
                let (scales, biases) = (halves(scales), halves(biases));
                let matrix = QuantMatrix::new(10, 4096, scheme, words, scales, biases);
                dequantize::matrix(&matrix.unwrap()).unwrap()
            }
            _ => bytes_of("head.linear.weight")
                .chunks_exact(if form == WeightFormat::Fp16 { 2 } else { 4 })
                .map(|bytes| match *bytes {
                    [a, b] => f16::from_le_bytes([a, b]).to_f32(),
                    [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                    _ => f32::NAN,
                })
                .collect(),
        };
        assert_eq!(weights.len(), 40_960);
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
        let squares = weights.iter().map(|&w| (f64::from(w) - mean).powi(2));
        (mean, (squares.sum::<f64>() / weights.len() as f64).sqrt())
    }

    #[test]
    fn weights_are_of_the_same_size_in_every_form() {
        for form in [
            WeightFormat::Fp32,
            WeightFormat::Fp16,
            WeightFormat::Quantised(Scheme::Q4),
            WeightFormat::Quantised(Scheme::Q8),
        ] {
            let (mean, deviation) = spread_of(form);
            let wanted = 1.0 / 64.0;
            assert!(mean.abs() < 0.02 * wanted, "{form:?} {mean}");
            assert!(
                (deviation / wanted - 1.0).abs() < 0.02,
                "{form:?} {deviation}"
            );
        }
    }
}
